"""Boxes from VOC XML, COCO and YOLO files, sound and hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.boxes import BOX_FORMATS, Box, BoxFormat, open_boxes
from samrefine_runtime.labels import VOC_CLASSES

SHAPE = (40, 60)
BOXES = [("dog", (6.0, 4.0, 30.0, 20.0)), ("cat", (0.0, 0.0, 60.0, 40.0))]
"""Class and edges XYXY of the boxes of image a; b has none."""


def voc(folder: Path) -> Path:
    """Written as VOC's development kit counts: from 1, both corners inclusive."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>{x0 + 1}</xmin>"
        f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in BOXES
    )
    for name, inner in (("a", objects), ("b", "")):
        (folder / f"{name}.xml").write_text(f"<annotation>{inner}</annotation>")
    return folder


def coco(folder: Path) -> Path:
    content = {
        "images": [
            {"id": i, "file_name": f"train/{name}.jpg", "height": 40, "width": 60}
            for i, name in enumerate("ab")
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {
                "id": i,
                "image_id": 0,
                "category_id": {"dog": 90, "cat": 3}[name],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            for i, (name, (x0, y0, x1, y1)) in enumerate(BOXES)
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def yolo(folder: Path) -> Path:
    lines = [
        f"{['cat', 'dog'].index(name)} {(x0 + x1) / 120} {(y0 + y1) / 80} {(x1 - x0) / 60} "
        f"{(y1 - y0) / 40}\n"
        for name, (x0, y0, x1, y1) in BOXES
    ]
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text("".join(lines))
    (folder / "labels" / "b.txt").write_text("")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder / "labels"


WRITERS: dict[str, Callable[[Path], Path]] = {"voc": voc, "coco": coco, "yolo": yolo}


@pytest.mark.parametrize("name", list(BOX_FORMATS))
def test_every_format(name: str, tmp_path: Path) -> None:
    found = open_boxes(WRITERS[name](tmp_path))
    assert isinstance(found, BOX_FORMATS[name])
    names = VOC_CLASSES[1:] if name == "voc" else ("cat", "dog")
    assert found.classes == names
    boxes, values = found.read("a", SHAPE)
    np.testing.assert_allclose(boxes, [edges for _, edges in BOXES], atol=1e-9)
    assert values.tolist() == [names.index(each) + 1 for each, _ in BOXES]
    boxes, values = found.read("b", SHAPE)
    assert boxes.shape == (0, 4) and values.shape == (0,)
    assert np.array_equal(found.read("train/a", SHAPE)[1], found.read("a", SHAPE)[1])
    with pytest.raises(LabelError, match=r"no (image )?c"):
        found.read("c", SHAPE)


@pytest.mark.parametrize("name", list(BOX_FORMATS))
def test_classes_may_be_given(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path)
    order = ("dog", "cat", "cow")
    found = open_boxes(path, order)
    assert found.classes == order
    assert found.read("a", SHAPE)[1].tolist() == [1, 2]
    with pytest.raises(LabelError, match="box 1: unknown class 'dog', did you mean dogs"):
        open_boxes(path, ("dogs", "cat")).read("a", SHAPE)


def test_classes_of_voc_files(tmp_path: Path) -> None:
    """VOC's own order, else that of the alphabet; broken files do not count."""
    voc(tmp_path)
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "broken.xml").write_text("<annotation>")
    assert open_boxes(tmp_path).classes == VOC_CLASSES[1:]
    (tmp_path / "a.xml").write_text(text.replace("cat", "zebra"))
    assert open_boxes(tmp_path).classes == ("dog", "zebra")
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(SettingsError, match="no file here names an object"):
        open_boxes(tmp_path)


class Listed(BoxFormat):
    """Boxes that a test gives."""

    expected = "nothing"

    @classmethod
    def fits(cls, path: Path) -> bool:
        return False

    def __init__(self, *boxes: Box):
        self.boxes, self.classes = boxes, ("cat",)

    def listed(self, image_id: str) -> list[Box]:
        return list(self.boxes)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((5, 5, 5, 9), "box 1 (cat) from 5, 5 to 5, 9 is empty, expected left < right"),
        ((9, 5, 5, 9), "is empty"),
        ((5, 9, 9, 5), "is empty"),
        ((float("nan"), 5, 9, 9), "is empty"),
        ((5, 5, float("inf"), 9), "is empty"),
        ((5, 5, 61.5, 9), "extends beyond the image of 60 x 40 pixels"),
        ((-1.5, 5, 9, 9), "extends beyond the image"),
        ((5, 5, 9, 500), "extends beyond the image"),
        ((-1, 5, -0.5, 9), "lies outside the image of 60 x 40 pixels"),
        ((60, 5, 61, 9), "lies outside the image"),
    ],
)
def test_boxes_that_cannot_be(edges: tuple[float, ...], message: str) -> None:
    with pytest.raises(LabelError) as caught:
        Listed(Box("cat", *edges)).read("a", SHAPE)
    assert message in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.floats(-2, 62), min_size=4, max_size=4))
def test_what_is_read_lies_inside(edges: list[float]) -> None:
    try:
        boxes, _ = Listed(Box("cat", *edges)).read("a", SHAPE)
    except LabelError:
        return
    left, top, right, bottom = boxes[0]
    assert 0 <= left < right <= 60 and 0 <= top < bottom <= 40
    assert np.abs(boxes[0] - edges).max() <= 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "expected class x y width height"),
        ("0 0.5 0.5 0.1 nan", "expected class x y"),
        ("cat 0.5 0.5 0.1 0.1", "expected class x y"),
        ("0 a b c d", "expected class x y"),
        ("2 0.5 0.5 0.1 0.1", "a.txt:2: class 2, expected 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "class -1, expected 0 to 1"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "expected class x y"),
    ],
)
def test_lines_of_yolo_that_cannot_be(line: str, message: str, tmp_path: Path) -> None:
    path = yolo(tmp_path)
    (path / "a.txt").write_text(f"\n{line}\n")
    with pytest.raises(LabelError, match=message):
        open_boxes(path).read("a", SHAPE)
    (path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(LabelError, match="not a text file"):
        open_boxes(path).read("a", SHAPE)


def test_polygons_and_confidences_of_yolo(tmp_path: Path) -> None:
    path = yolo(tmp_path)
    (path / "a.txt").write_text("0 0.1 0.2 0.5 0.1 0.3 0.6\n1 0.5 0.5 0.2 0.5 0.93\n")
    boxes, values = open_boxes(path).read("a", SHAPE)
    np.testing.assert_allclose(boxes, [[6, 4, 30, 24], [24, 10, 36, 30]])
    assert values.tolist() == [1, 2]


def test_numbers_need_names(tmp_path: Path) -> None:
    path = yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(SettingsError, match="YOLO's files number the classes; name them with --cl"):
        open_boxes(path)
    assert open_boxes(path, ("cow", "dog")).read("a", SHAPE)[1].tolist() == [2, 1]


BBOX: dict[str, Any] = {"id": 7, "image_id": 0, "category_id": 3, "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"annotation 7: bbox is \[1, 2, 3\], expected \[x, y, width, height"),
        ({"bbox": None}, "bbox is None"),
        ({"bbox": [1, 2, "3", 4]}, "bbox is"),
        ({"bbox": [1, 2, True, 4]}, "bbox is"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox is"),
        ({"category_id": 4}, "category_id is 4, which no category has"),
        ({"category_id": [3]}, "category_id is"),
        ({"bbox": [1, 2, -3, 4]}, "is empty"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_annotations_of_coco_that_cannot_be(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = [BBOX | change]
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=message):
        open_boxes(path).read("a", SHAPE)
    assert len(open_boxes(path).read("b", SHAPE)[0]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "no categories"),
        ({"categories": None}, "no categories"),
        ({"categories": [{"id": "1", "name": "a"}]}, "category .* expected an id of its own"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "expected an id of its"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two of one name"),
        ({"annotations": 5}, "not COCO JSON"),
    ],
    ids=str,
)
def test_files_of_coco_that_cannot_be(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = coco(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SettingsError, match=message):
        open_boxes(path)


@pytest.mark.parametrize(
    ("corner", "message"),
    [("", "has the corners"), ("a", "has the corners"), ("inf", "has the corners")],
)
def test_corners_of_voc_that_are_no_numbers(corner: str, message: str, tmp_path: Path) -> None:
    voc(tmp_path)
    text = (tmp_path / "a.xml").read_text().replace("<xmin>7.0<", f"<xmin>{corner}<")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError, match=message):
        open_boxes(tmp_path).read("a", SHAPE)


def test_nothing_that_may_hold_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    for path in (tmp_path, tmp_path / "a.csv", tmp_path / "none"):
        with pytest.raises(SettingsError, match=r"no boxes here, expected a folder of VOC"):
            open_boxes(path)
