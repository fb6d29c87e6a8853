"""Regions cut into parts without holes, and simple polygons around them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samrefine_runtime.formats.parts import EDITABLE, LEAST_IOU, outline, parts
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.labels import read_label
from tests.samples import VOC, needs_voc

exact_pillow = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 12,
    reason="Pillow before 12 draws polygons of no width otherwise",
)

LABELS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.sampled_from([0, 1, 1, 2]),
)
FRAME = np.ones((9, 9), np.uint8)
FRAME[3:6, 3:6] = 0


def by_labelme(shape: tuple[int, int], polygons: list[list[list[float]]]) -> NDArray[np.bool_]:
    """Draw as labelme's `shape_to_mask` does."""
    image = Image.new("1", shape[::-1])
    for polygon in polygons:
        points = [(x, y) for x, y in polygon]
        ImageDraw.Draw(image).polygon(points, fill=1, outline=1)
    return np.asarray(image)


def by_x_anylabeling(
    shape: tuple[int, int], polygons: list[list[list[float]]]
) -> NDArray[np.bool_]:
    """Draw as X-AnyLabeling's `custom_to_mask` does."""
    image = np.zeros(shape, np.uint8)
    for polygon in polygons:
        points = [(int(x), int(y)) for x, y in polygon]
        cv2.fillPoly(image, [np.array(points, np.int32)], 1)
    return image.astype(bool)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def outlines(region: Region, tolerance: float) -> list[list[list[float]]]:
    return [outline(part, tolerance) for part in parts(region, tolerance)]


@settings(deadline=None)
@given(LABELS)
def test_parts_are_the_region_and_have_no_holes(label: NDArray[Any]) -> None:
    for region in regions(label, 3):
        joined = np.zeros(label.shape, int)
        for part in parts(region, 0):
            joined += part.paste(label.shape)
            outside = (~np.pad(part.mask, 1)).astype(np.uint8)
            assert cv2.connectedComponents(outside, connectivity=4)[0] == 2
            assert cv2.connectedComponents(part.mask.astype(np.uint8))[0] == 2
        assert np.array_equal(joined, region.paste(label.shape))


@exact_pillow
@settings(deadline=None)
@given(LABELS, st.sampled_from([by_labelme, by_x_anylabeling]))
def test_both_programs_draw_the_same_pixels(label: NDArray[Any], draw: Any) -> None:
    for region in regions(label, 3):
        polygons = outlines(region, 0)
        assert all(len(polygon) >= 3 for polygon in polygons)
        assert np.array_equal(draw(label.shape, polygons), region.paste(label.shape))


@exact_pillow
@settings(deadline=None)
@given(LABELS, st.floats(0, 50))
def test_no_part_loses_more_than_is_allowed(label: NDArray[Any], tolerance: float) -> None:
    for region in regions(label, 3):
        for part in parts(region, tolerance):
            drawn = by_labelme(label.shape, [outline(part, tolerance)])
            assert iou(drawn, part.paste(label.shape)) >= LEAST_IOU


def test_a_frame_is_cut_through_its_hole() -> None:
    (region,) = regions(FRAME, 2)
    assert [part.bbox for part in parts(region, 1)] == [[0, 0, 4, 9], [4, 0, 5, 9]]
    assert list(map(len, outlines(region, 0))) == [8, 10]


def test_a_hole_within_the_tolerance_is_filled_unless_it_is_much_of_the_region() -> None:
    label = np.ones((20, 20), np.uint8)
    label[9:11, 3:17] = 0
    (region,) = regions(label, 2)
    assert [part.area for part in parts(region, 1)] == [400]
    assert sum(part.area for part in parts(region, 0.5)) == region.area == 372
    (small,) = regions(label[7:13], 2)
    assert sum(part.area for part in parts(small, 1)) == small.area


@exact_pillow
@pytest.mark.parametrize("pixels", [[(4, 6)], [(4, 6), (4, 7), (4, 8)], [(4, 6), (5, 7)]])
def test_pixels_and_lines_have_a_polygon(pixels: list[tuple[int, int]]) -> None:
    label = np.zeros((9, 9), np.uint8)
    for pixel in pixels:
        label[pixel] = 1
    (region,) = regions(label, 2)
    (points,) = outlines(region, EDITABLE)
    assert len(points) == 4
    for rounded in (np.round(points), np.floor(points)):
        assert np.array_equal(by_labelme((9, 9), [rounded.tolist()]), label.astype(bool))


@needs_voc
def test_real_regions_have_few_vertices() -> None:
    count, kept = [], []
    for path in sorted((VOC / "gt").glob("*.png"))[::10]:
        label = read_label(path)
        for region in regions(label, 21, min_area=64):
            polygons = outlines(region, EDITABLE)
            count.append(sum(map(len, polygons)) / len(polygons))
            kept.append(iou(by_labelme(label.shape, polygons), region.paste(label.shape)))
    assert np.mean(count) < 30
    assert np.mean(kept) > 0.95
    assert min(kept) > 0.85
