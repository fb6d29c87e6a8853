"""CVAT's XML 1.1; `tests/interop` opens it in datumaro."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from samrefine_runtime.formats.cvat import CvatLabels
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.rasterise import as_polygon, fill_polygon, paint
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.labels import LabelMap

CLASSES = ("background", "cat", 'a "dog" & <co>')
LABEL = np.zeros((12, 16), np.uint8)
LABEL[2:8, 3:9] = 1
LABEL[4:6, 5:7] = 0
LABEL[6:11, 10:15] = 2


def write(folder: Path, label: LabelMap, **given: Any) -> ElementTree.Element:
    form = CvatLabels(folder / "cvat", CLASSES, settings=FormatSettings(**given))
    Image.new("RGB", label.shape[::-1]).save(folder / "a & b.jpg")
    form.write("a & b", folder / "a & b.jpg", label)
    form.finish({"a & b": folder / "a & b.jpg"}, lambda image_id: label)
    return ElementTree.fromstring((form.folder / "annotations.xml").read_text())


def shape_of(element: ElementTree.Element, image_shape: tuple[int, int]) -> Region:
    value = CLASSES.index(element.get("label"))
    if element.tag == "polygon":
        points = [pair.split(",") for pair in element.get("points").split(";")]
        return fill_polygon(as_polygon(points), image_shape, value)
    left, top, width, height = (int(element.get(k)) for k in ("left", "top", "width", "height"))
    counts = [int(count) for count in element.get("rle").split(",")]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return Region(value, left, top, flat.reshape(height, width))


def test_structure(tmp_path: Path) -> None:
    root = write(tmp_path, LABEL, tolerance=0)
    assert root.findtext("version") == "1.1"
    assert [each.text for each in root.iter("name")] == list(CLASSES[1:])
    (image,) = root.findall("image")
    assert image.attrib == {"id": "0", "name": "a & b.jpg", "width": "16", "height": "12"}
    # The halves of the frame are one object
    assert [(each.get("label"), each.get("group_id")) for each in image] == [
        ("cat", "1"),
        ("cat", "1"),
        (CLASSES[2], None),
    ]


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=16),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_any_label_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, shapes: str, label: LabelMap
) -> None:
    root = write(tmp_path_factory.mktemp("cvat"), label, shapes=shapes, tolerance=0)
    found = [shape_of(each, label.shape) for each in root.find("image")]
    assert np.array_equal(paint(label.shape, found), np.where(label == 255, 0, label))
