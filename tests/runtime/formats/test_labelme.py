"""labelme annotations, read back by labelme's own loader."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.labelme import write_labelme
from samrefine_runtime.formats.polygons import regions
from samrefine_runtime.labels import VOC_CLASSES, read_label
from tests.samples import VOC, needs_voc

# labelme leaves the images it opens to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

GOLDEN = Path(__file__).parent / "golden"
CLASSES = ("background", "cat", "dog")
LABEL = np.array(
    [
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 2],
        [0, 1, 1, 1, 2, 2],
        [255, 0, 0, 0, 0, 1],
    ],
    np.uint8,
)


@pytest.fixture(scope="module")
def labelme() -> Any:
    """labelme itself; Qt and the drawing library, which its loader never calls, are left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", PIL.Image.MAX_IMAGE_PIXELS)
        for name in ("PyQt5", "imgviz", "imgviz.io"):
            patch.setitem(sys.modules, name, MagicMock())
        yield pytest.importorskip("labelme", reason="labelme is not installed")


def draw(labelme: Any, path: Path, size: tuple[int, int], classes: tuple[str, ...]) -> np.ndarray:
    """The label map that labelme draws of a file."""
    shapes = labelme.LabelFile(str(path)).shapes
    values = {name: index for index, name in enumerate(classes)}
    return labelme.utils.shapes_to_label(size, shapes, values)[0]


def decoded(content: dict) -> dict:
    """Decode PNG bytes in the content to pixels: the bytes depend on the zlib version."""
    for shape in content["shapes"]:
        if shape["mask"]:
            with PIL.Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
                shape["mask"] = np.array(image).tolist()
    return content


def write(
    folder: Path, label: np.ndarray, classes: tuple[str, ...] = CLASSES, **options: Any
) -> Path:
    image = PIL.Image.new("RGB", label.shape[::-1])
    image.save(folder / "image.png")
    write_labelme(folder / "image.json", label, classes, folder / "image.png", **options)
    return folder / "image.json"


def test_golden_of_masks(tmp_path: Path) -> None:
    written = write(tmp_path, LABEL, tolerance=0, allows_masks=True)
    golden = json.loads((GOLDEN / "labelme.json").read_text())
    assert decoded(json.loads(written.read_text())) == golden
    assert list(json.loads(written.read_text())) == list(golden)
    again = write(tmp_path, LABEL, tolerance=0, allows_masks=True)
    assert again.read_bytes() == written.read_bytes()


def test_golden_bytes_of_polygons(tmp_path: Path) -> None:
    written = write(tmp_path, LABEL, tolerance=0)
    assert written.read_bytes() == (GOLDEN / "labelme_polygon.json").read_bytes()


@pytest.mark.parametrize(
    ("allows_masks", "shapes"),
    [
        (True, [("cat", "mask", None), ("dog", "polygon", None), ("cat", "mask", None)]),
        (
            False,
            # Halves of the frame, which are one object
            [
                ("cat", "polygon", 0),
                ("cat", "polygon", 0),
                ("dog", "polygon", None),
                ("cat", "polygon", None),
            ],
        ),
    ],
)
def test_labelme_reads_it_back(
    tmp_path: Path, labelme: Any, allows_masks: bool, shapes: list[tuple[str, str, int | None]]
) -> None:
    path = write(tmp_path, LABEL, tolerance=0, allows_masks=allows_masks)
    loaded = labelme.LabelFile(str(path))
    assert loaded.image_path == "image.png"
    found = [(each["label"], each["shape_type"], each["group_id"]) for each in loaded.shapes]
    assert found == shapes
    expected = np.where(LABEL == 255, 0, LABEL)
    assert np.array_equal(draw(labelme, path, LABEL.shape, CLASSES), expected)


@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
        elements=st.sampled_from([0, 1, 1, 2, 255]),
    ),
    st.booleans(),
)
def test_any_label_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    labelme: Any,
    label: NDArray[Any],
    allows_masks: bool,
) -> None:
    path = write(tmp_path_factory.getbasetemp(), label, tolerance=0, allows_masks=allows_masks)
    assert np.array_equal(
        draw(labelme, path, label.shape, CLASSES), np.where(label == 255, 0, label)
    )


@needs_voc
def test_real_labels_come_back(tmp_path: Path, labelme: Any) -> None:
    for source in sorted((VOC / "transcam").glob("*.png"))[:8]:
        label = read_label(source)
        image = (VOC / "images" / source.name).with_suffix(".jpg")
        path = tmp_path / f"{source.stem}.json"
        write_labelme(path, label, VOC_CLASSES, image, tolerance=0)
        assert np.array_equal(draw(labelme, path, label.shape, VOC_CLASSES), label)


def test_tolerance_saves_points(tmp_path: Path) -> None:
    y, x = np.mgrid[:60, :60]
    disc = ((y - 30) ** 2 + (x - 30) ** 2 < 25**2).astype(np.uint8)
    exact = json.loads(write(tmp_path, disc, tolerance=0).read_text())["shapes"][0]["points"]
    fewer = json.loads(write(tmp_path, disc).read_text())["shapes"][0]["points"]
    assert len(fewer) == 8 < len(exact) / 5


def test_image_path_is_relative_to_the_file(tmp_path: Path) -> None:
    write_labelme(tmp_path / "out" / "a.json", LABEL, CLASSES, tmp_path / "images" / "a b.jpg")
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert content["imagePath"] == "../images/a b.jpg"


def test_class_without_a_name_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="label has class 2, expected below 2"):
        write_labelme(tmp_path / "a.json", LABEL, CLASSES[:2], "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_least_area(tmp_path: Path) -> None:
    shapes = json.loads(write(tmp_path, LABEL, min_area=3).read_text())["shapes"]
    # The frame is two halves
    assert [shape["label"] for shape in shapes] == ["cat", "cat", "dog"]
    assert sum(region.area >= 3 for region in regions(LABEL, 3)) == 2
