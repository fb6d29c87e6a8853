"""Which points of the grid are asked."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.sam.grids import Crop, point_grid
from samrefine_runtime.sam.prompts import (
    coarse_to_fine,
    near_label,
    points_in,
    uncovered,
)


@settings(deadline=None)
@given(st.integers(1, 40))
def test_rounds_share_the_grid(points_per_side: int) -> None:
    grid = point_grid(points_per_side)
    first, rest = coarse_to_fine(grid)
    assert len(first) == (points_per_side // 2) ** 2
    assert sorted(map(tuple, np.concatenate([first, rest]))) == sorted(map(tuple, grid))


def test_the_first_round_is_every_second_point() -> None:
    first, _ = coarse_to_fine(point_grid(4))
    assert first.tolist() == [[0.375, 0.375], [0.875, 0.375], [0.375, 0.875], [0.875, 0.875]]


@settings(deadline=None)
@given(hnp.arrays(bool, (6, 8)), st.integers(1, 9))
def test_points_in_a_region(region: np.ndarray, points_per_side: int) -> None:
    crop = Crop((2, 1, 8, 5), 1)
    points = points_in(crop, point_grid(points_per_side), None)
    inside = [tuple(p) for p in points if region[int(p[1] + 1), int(p[0] + 2)]]
    assert [tuple(p) for p in points_in(crop, point_grid(points_per_side), region)] == inside


@settings(deadline=None)
@given(st.data())
def test_covered_points_lie_in_a_mask_of_at_most_half_the_image(data: st.DataObject) -> None:
    shape = (6, 8)
    stack = data.draw(st.lists(hnp.arrays(bool, shape), max_size=3))
    crop = Crop((1, 2, 8, 6), 1)
    points = points_in(crop, point_grid(3), None)
    left = uncovered(points, crop, Masks.from_dense(shape, stack))
    small = [mask for mask in stack if mask.sum() <= 24]
    expected = [
        tuple(p) for p in points if not any(mask[int(p[1] + 2), int(p[0] + 1)] for mask in small)
    ]
    assert [tuple(p) for p in left] == expected


@settings(deadline=None)
@given(st.data())
def test_region_holds_the_label_and_its_neighbourhood(data: st.DataObject) -> None:
    """Pixels within the margin of a class in x and in y, and no others."""
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    label = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 254, 255])))
    margin = data.draw(st.sampled_from([0.0, 1 / 32, 0.1, 0.3]))
    reach = int(np.ceil(margin * max(shape)))
    expected = np.zeros(shape, bool)
    for y, x in np.argwhere((label > 0) & (label < 255)):
        expected[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    assert np.array_equal(near_label(label, margin), expected)


def test_region_of_a_label_without_classes_is_empty() -> None:
    assert not near_label(np.array([[0, 255], [255, 0]], np.uint8)).any()
