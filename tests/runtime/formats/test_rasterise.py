"""Polygons to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats import rasterise
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.formats.rasterise import (
    as_polygon,
    draw_polygon,
    fill_polygon,
    largest_first,
    paint,
)

LABELS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.sampled_from([0, 1, 1, 2]),
)
POINTS = hnp.arrays(
    np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-30, 30, width=32)
)


def inside(polygon: NDArray[np.float64], x: float, y: float) -> bool:
    """The even-odd rule as it is written: how often a ray to the left is crossed."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if min(y0, y1) <= y < max(y0, y1):
            crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return crossings % 2 == 1


@settings(deadline=None)
@given(POINTS, st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_pixels_whose_centres_are_inside(
    polygon: NDArray[np.float64], image_shape: tuple[int, int]
) -> None:
    filled = fill_polygon(polygon, image_shape).paste(image_shape)
    expected = [
        [inside(polygon, column + 0.5, row + 0.5) for column in range(image_shape[1])]
        for row in range(image_shape[0])
    ]
    assert np.array_equal(filled, expected)


@settings(deadline=None)
@given(LABELS, st.sampled_from([0, 0.25]))
def test_regions_come_back(label: NDArray[Any], tolerance: float) -> None:
    found = [
        fill_polygon(region.polygon(tolerance), label.shape, region.class_id)
        for region in regions(label, 3)
    ]
    assert np.array_equal(paint(label.shape, found), label)


def test_many_crossings_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    angle = np.linspace(0, 2 * np.pi, 500)
    polygon = np.stack([40 + 30 * np.cos(angle), 40 + 30 * np.sin(angle * 3)], axis=1)
    whole = fill_polygon(polygon, (80, 80)).paste((80, 80))
    monkeypatch.setattr(rasterise, "_CROSSINGS", 7)
    assert np.array_equal(fill_polygon(polygon, (80, 80)).paste((80, 80)), whole)
    assert 0 < whole.sum() < whole.size


def test_drawing_includes_the_outline_and_cuts_fractions() -> None:
    box = np.array([[1.9, 1.2], [4.5, 1.0], [4.0, 3.9], [1.0, 3.0]])
    drawn = draw_polygon(box, (6, 7), 2)
    assert (drawn.left, drawn.top, drawn.mask.shape) == (1, 1, (3, 4))
    assert drawn.mask.all() and drawn.class_id == 2


@pytest.mark.parametrize("draw", [fill_polygon, draw_polygon])
def test_polygons_outside_of_the_image(draw: Any) -> None:
    far = np.array([[100.0, 100], [120, 100], [120, 120]])
    for polygon in (far, -far):
        assert draw(polygon, (6, 7)).area == 0
    assert draw(np.array([[-100.0, -100], [100, -100], [100, 100], [-100, 100]]), (6, 7)).area == 42


def test_small_shapes_lie_on_top() -> None:
    large, small = Region(1, 0, 0, np.ones((4, 4), bool)), Region(2, 1, 1, np.ones((2, 2), bool))
    label = paint((4, 4), largest_first([small, large]))
    assert label[1:3, 1:3].tolist() == [[2, 2], [2, 2]] and (label == 1).sum() == 12


@pytest.mark.parametrize(
    "values",
    [
        None,
        "polygon",
        [],
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5],
        [[1, 2], [3, 4], [5]],
        [1, 2, 3, 4, 5, float("nan")],
        [1, 2, 3, 4, 5, 1e300],
        [1, 2, 3, 4, 5, 10**400],
        ["a", "b", "c", "d", "e", "f"],
        [1, 2, 3, 4, 5, {}],
        [[[1, 2]], [3]],
    ],
    ids=lambda values: str(values)[:20],
)
def test_what_is_no_polygon(values: Any) -> None:
    with pytest.raises(LabelError, match=r"a polygon is .*, expected at least 3 points x, y"):
        as_polygon(values)
