"""Label Studio's tasks; brushes are read back by the codec of its own SDK."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.formats.label_studio import LabelStudioLabels, encode_brush
from samrefine_runtime.formats.polygons import regions
from samrefine_runtime.formats.rasterise import fill_polygon, paint
from samrefine_runtime.formats.settings import FormatSettings

CLASSES = ("background", "cat", 'a "dog" & <co>')
LABEL = np.zeros((12, 16), np.uint8)
LABEL[2:8, 3:9] = 1
LABEL[4:6, 5:7] = 0
LABEL[6:11, 10:15] = 2


@pytest.fixture(scope="module")
def brush() -> ModuleType:
    """The SDK's module of brushes alone: the package around it needs pandas and a web client."""
    package = importlib.util.find_spec("label_studio_sdk")
    if package is None or not package.submodule_search_locations:
        pytest.skip("label-studio-sdk is not installed")
    path = Path(package.submodule_search_locations[0]) / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("label_studio_brush", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def tasks(folder: Path, label: NDArray[np.uint8], **given: Any) -> list[dict[str, Any]]:
    (folder / "images").mkdir(exist_ok=True)
    image = folder / "images" / "a b.png"
    Image.new("RGB", label.shape[::-1]).save(image)
    form = LabelStudioLabels(folder / "out", CLASSES, settings=FormatSettings(**given))
    form.write("a b", image, label)
    form.finish({"a b": image}, lambda image_id: label)
    assert (form.folder / "images" / "a b.png").is_file()
    return json.loads((form.folder / "tasks.json").read_text())  # type: ignore[no-any-return]


def test_tasks_name_the_image_and_its_predictions(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, LABEL, tolerance=0)
    assert task["data"] == {"image": "/data/local-files/?d=images/a%20b.png"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "samrefine-rt" and "score" not in prediction
    results = prediction["result"]
    assert len({result["id"] for result in results}) == len(results) == 3
    assert [result["value"]["polygonlabels"] for result in results] == [["cat"]] * 2 + [
        [CLASSES[2]]
    ]
    assert all(result["original_width"] == 16 for result in results)
    # The interface has the tags that the results name
    root = ElementTree.fromstring((tmp_path / "out" / "label_config.xml").read_text())
    control, image = root.find("PolygonLabels"), root.find("Image")
    assert control.get("name") == results[0]["from_name"]
    assert control.get("toName") == image.get("name") == results[0]["to_name"]
    assert [each.get("value") for each in control] == list(CLASSES[1:])


def test_polygons_are_percents_without_holes(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, LABEL, tolerance=0)
    shapes = [
        fill_polygon(
            np.array(result["value"]["points"]) * (0.16, 0.12),
            LABEL.shape,
            CLASSES.index(result["value"]["polygonlabels"][0]),
        )
        for result in task["predictions"][0]["result"]
    ]
    assert np.array_equal(paint(LABEL.shape, shapes), LABEL)


MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


@settings(deadline=None)
@given(MASKS)
def test_brushes_are_those_of_the_sdk(brush: ModuleType, mask: NDArray[np.bool_]) -> None:
    flat = np.repeat(mask.reshape(-1).astype(np.uint8) * 255, 4)
    encoded = encode_brush(mask)
    assert encoded == brush.encode_rle(flat)
    assert np.array_equal(brush.decode_rle(encoded), flat)


@pytest.mark.parametrize("pixels", [1, 2, 4, 5, 64, 65, 16384, 16385, 40000])
def test_runs_of_every_length(brush: ModuleType, pixels: int) -> None:
    mask = np.zeros((2, pixels), bool)
    mask[0] = True
    encoded = encode_brush(mask)
    assert encoded == brush.encode_rle(np.repeat(mask.reshape(-1).astype(np.uint8) * 255, 4))


@settings(deadline=None, max_examples=20)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_the_sdk_reads_the_label_back(
    tmp_path_factory: pytest.TempPathFactory, brush: ModuleType, label: NDArray[np.uint8]
) -> None:
    (task,) = tasks(tmp_path_factory.mktemp("ls"), label, shapes="masks")
    results = task["predictions"][0]["result"]
    assert len(results) == len(list(regions(label, 3)))
    read = np.zeros_like(label)
    for result in results:
        assert result["type"] == "brushlabels"
        shape = (result["original_height"], result["original_width"], 4)
        pixels = brush.decode_rle(result["value"]["rle"]).reshape(shape)[..., 3]
        read[pixels > 0] = CLASSES.index(result["value"]["brushlabels"][0])
    assert np.array_equal(read, np.where(label == 255, 0, label))
