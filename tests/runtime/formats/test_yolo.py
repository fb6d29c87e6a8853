"""YOLO segmentation labels, drawn back by pycocotools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.errors import ImageError, LabelError
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.formats.yolo import YoloLabels, write_yolo, write_yolo_dataset
from tests.samples import pycocotools

GOLDEN = Path(__file__).parent / "golden"
LABEL = np.array(
    [
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 2],
        [0, 1, 1, 1, 2, 2],
        [255, 0, 0, 0, 0, 1],
    ],
    np.uint8,
)


def draw(path: Path, size: tuple[int, int]) -> np.ndarray:
    label = np.zeros(size, np.uint8)
    for line in path.read_text().splitlines():
        class_id, *values = line.split(" ")
        points = np.array(values, float).reshape(-1, 2) * size[::-1]
        runs = pycocotools("mask").frPyObjects([points.ravel().tolist()], *size)
        label[pycocotools("mask").decode(pycocotools("mask").merge(runs)) == 1] = int(class_id) + 1
    return label


def test_golden_bytes(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.txt", LABEL, 3)
    assert (tmp_path / "a.txt").read_bytes() == (GOLDEN / "yolo.txt").read_bytes()


def test_golden_data_set(tmp_path: Path) -> None:
    write_yolo_dataset(tmp_path, ("background", "cat", 'a "dog": yes'), {"train", "val"})
    assert (tmp_path / "classes.txt").read_bytes() == b'cat\na "dog": yes\n'
    assert (tmp_path / "data.yaml").read_bytes() == (
        b'train: images/train\nval: images/val\nnames:\n  0: "cat"\n  1: "a \\"dog\\": yes"\n'
    )


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_without_images_is_the_other_one(tmp_path: Path, part: str) -> None:
    write_yolo_dataset(tmp_path, ("background", "cat"), {part})
    lines = (tmp_path / "data.yaml").read_text().splitlines()
    assert lines[:2] == [f"train: images/{part}", f"val: images/{part}"]


@pytest.mark.parametrize("how", ["copy", "link"])
def test_images_lie_beside_labels(tmp_path: Path, how: str) -> None:
    images = {f"a {number}": tmp_path / f"a {number}.PNG" for number in range(12)}
    for image in images.values():
        Image.new("RGB", (6, 4)).save(image)
    given = FormatSettings(split=0.5, dataset_images=how)
    form = YoloLabels(tmp_path / "yolo", ("background", "cat", "dog"), settings=given)
    for image in images.values():
        form.write(image.stem, image, LABEL)
    form.finish(images, lambda name: LABEL)
    for part in ("train", "val"):
        placed = sorted((form.folder / "images" / part).iterdir())
        labels = sorted((form.folder / "labels" / part).iterdir())
        assert [path.stem for path in placed] == [path.stem for path in labels] != []
        assert all(
            path.suffix == ".png" and path.samefile(images[path.stem]) == (how == "link")
            for path in placed
        )
    assert sum(1 for _ in form.folder.rglob("*.txt")) == len(images) + 1


def test_an_image_that_is_gone(tmp_path: Path) -> None:
    form = YoloLabels(tmp_path / "yolo", ("background", "cat", "dog"))
    with pytest.raises(ImageError, match=r"a\.jpg: no such file"):
        form.write("a", tmp_path / "a.jpg", LABEL)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(deadline=None, max_examples=50)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
        elements=st.sampled_from([0, 1, 1, 2, 255]),
    )
)
def test_polygons_draw_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, label: NDArray[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "yolo.txt"
    write_yolo(path, label, 3)
    assert np.array_equal(draw(path, label.shape), np.where(label == 255, 0, label))


def test_values_are_shares_of_the_image(tmp_path: Path) -> None:
    label = np.ones((7, 9), np.uint8)
    write_yolo(tmp_path / "a.txt", label, 2, tolerance=0)
    line = "0 0.000000 0.000000 1.000000 0.000000 1.000000 1.000000 0.000000 1.000000\n"
    assert (tmp_path / "a.txt").read_text() == line


def test_image_without_objects_has_an_empty_file(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.txt", np.zeros((3, 3), np.uint8), 2)
    assert (tmp_path / "a.txt").read_bytes() == b""


def test_labels_and_names_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="label has class 2, expected below 2"):
        write_yolo(tmp_path / "a.txt", LABEL, 2)
    with pytest.raises(LabelError, match=r"class name 'a\\nb' is not one line"):
        write_yolo_dataset(tmp_path, ("background", "a\nb"), {"train"})
    assert list(tmp_path.iterdir()) == []
