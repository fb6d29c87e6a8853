"""Connected regions and the polygons around them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.polygons import Region, regions, trace_rings
from samrefine_runtime.masks import rle
from tests.samples import pycocotools

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

labels = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.sampled_from([0, 1, 1, 2, 255]),
)


def rasterise(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    runs = pycocotools("mask").frPyObjects([polygon.ravel().tolist()], *size)
    return pycocotools("mask").decode(pycocotools("mask").merge(runs)).astype(bool)


def disc_with_holes(size: int = 120) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    disc = (y - 60) ** 2 + (x - 60) ** 2 < 50**2
    for hole_y, hole_x, radius in ((40, 40, 10), (70, 80, 15), (85, 50, 4)):
        disc &= (y - hole_y) ** 2 + (x - hole_x) ** 2 >= radius**2
    return disc


@settings(deadline=None)
@given(labels)
def test_regions_part_the_label(label: NDArray[Any]) -> None:
    rebuilt = np.where(label == 255, 0, 0).astype(np.uint8)
    for region in regions(label, 3):
        full = region.paste(label.shape)
        assert (rebuilt[full] == 0).all()
        assert region.area == full.sum() > 0
        assert np.array_equal(region.runs(label.shape), rle.encode(full))
        assert cv2.connectedComponents(full.astype(np.uint8))[0] == 2
        rebuilt[full] = region.class_id
    assert np.array_equal(rebuilt, np.where(label == 255, 0, label))


@settings(deadline=None)
@given(labels, st.sampled_from([0, 0.25]))
def test_polygons_draw_the_same_pixels(label: NDArray[Any], tolerance: float) -> None:
    for region in regions(label, 3):
        polygon = region.polygon(tolerance)
        assert len(polygon) >= 3
        assert np.array_equal(rasterise(polygon, label.shape), region.paste(label.shape))
        assert polygon.min() >= 0
        assert (polygon.max(axis=0) <= label.shape[::-1]).all()


@pytest.mark.parametrize(("tolerance", "least", "most"), [(0.25, 1, 300), (1, 0.97, 100)])
def test_tolerance_saves_vertices(tolerance: float, least: int, most: int) -> None:
    (region,) = regions(disc_with_holes().astype(np.uint8), 2)
    polygon = region.polygon(tolerance)
    drawn, mask = rasterise(polygon, region.paste((120, 120)).shape), disc_with_holes()
    assert (drawn & mask).sum() / (drawn | mask).sum() >= least
    assert len(polygon) <= most < len(region.polygon(0))


def test_rings_of_a_frame() -> None:
    frame = np.ones((3, 3), bool)
    frame[1, 1] = False
    outer, hole = trace_rings(frame)
    assert outer[0].tolist() == [0, 0]
    assert outer[1].tolist() == [1, 0]
    assert len(outer) == 12
    assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_pixels_that_touch_at_a_corner_have_one_ring() -> None:
    assert len(trace_rings(np.eye(4, dtype=bool))) == 1
    assert len(trace_rings(np.eye(4, dtype=bool)[::-1])) == 1


def test_corners_of_one_pixel() -> None:
    region = Region(1, left=5, top=7, mask=np.ones((1, 1), bool))
    assert region.polygon(0).tolist() == [[5, 7], [6, 7], [6, 8], [5, 8]]
    assert region.bbox == [5, 7, 1, 1]


def test_order_and_least_area() -> None:
    label = np.array([[2, 0, 1], [0, 0, 0], [1, 1, 255]], np.uint8)
    found = [(region.class_id, region.bbox) for region in regions(label, 3)]
    assert found == [(1, [2, 0, 1, 1]), (1, [0, 2, 2, 1]), (2, [0, 0, 1, 1])]
    assert [region.area for region in regions(label, 3, min_area=2)] == [2]


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(LabelError, match="label has class 3, expected below 3"):
        list(regions(np.array([[3]], np.uint8), 3))
    with pytest.raises(LabelError, match=r"expected \(H, W\) uint8"):
        list(regions(np.array([[3]]), 3))
