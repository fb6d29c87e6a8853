"""Polygons of other programs to pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import LabelMap

_CROSSINGS = 1 << 20
"""Crossings of polygons and rows that are held at once: a file can have polygons of any length."""

_FARTHEST = 1e6
"""Pixels from the image's corner that a vertex may have; beyond it, what it means is unclear."""


def as_polygon(values: Any, *, least: int = 3) -> NDArray[np.float64]:
    """Return a polygon (V, 2) XY of the numbers [x, y, x, y, ...] or pairs [[x, y], ...] of a file.

    Raises LabelError unless there are at least so many vertices, of numbers in reach.
    """
    try:
        points = np.array(values, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros((0, 2))
    # NaN fails the comparison
    if len(points) < least or not (np.abs(points) <= _FARTHEST).all():
        raise LabelError(f"a polygon is {short(values)}, expected at least {least} points x, y")
    return points


def fill_polygon(
    polygon: NDArray[np.float64], image_shape: ImageShape, class_id: int = 1
) -> Region:
    """Return the pixels whose centres are inside a polygon, by the even-odd rule.

    Args:
        polygon: (V, 2) XY; pixel (0, 0) covers [0, 1] x [0, 1]. It may leave the image.
        image_shape: (H, W).
        class_id: of the region.
    """
    left, top, width, height = _box(polygon, image_shape)
    # toggles (h, w + 1): crossings left of each pixel's centre; odd ones switch in and out
    toggles = np.zeros((height, width + 1), np.int32)
    for rows, x in _crossings(polygon - (left, top), height):
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(toggles, (rows, columns), 1)
    return Region(class_id, left, top, np.cumsum(toggles[:, :-1], axis=1) % 2 == 1)


def draw_polygon(
    polygon: NDArray[np.float64], image_shape: ImageShape, class_id: int = 1
) -> Region:
    """Return the pixels of a polygon and its outline, as labelme's `shape_to_mask` draws them.

    Args:
        polygon: (V, 2) XY; pixel (0, 0) is the point (0, 0), fractions are cut off.
        image_shape: (H, W).
        class_id: of the region.
    """
    whole = np.trunc(polygon)
    left, top, width, height = _box(whole, image_shape)
    image = Image.new("1", (max(width, 1), max(height, 1)))
    points = (whole - (left, top)).ravel().tolist()
    ImageDraw.Draw(image).polygon(points, fill=1, outline=1)
    return Region(class_id, left, top, np.array(image)[:height, :width])


def _box(polygon: NDArray[np.float64], image_shape: ImageShape) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the pixels that a polygon can touch in an image."""
    limits = np.array([image_shape[1], image_shape[0]])
    start = np.clip(np.floor(polygon.min(axis=0)), 0, limits).astype(int)
    stop = np.clip(np.floor(polygon.max(axis=0)) + 1, start, limits).astype(int)
    (left, top), (width, height) = start.tolist(), (stop - start).tolist()
    return left, top, width, height


def _crossings(
    polygon: NDArray[np.float64], height: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield rows (K,) and the positions x (K,) at which edges cross the middles of these rows."""
    ends = np.roll(polygon, -1, axis=0)
    # From the upper end down: an edge and its way back, as of cuts to holes, cross at the same x
    is_upward = (polygon[:, 1] > ends[:, 1])[:, None]
    polygon, ends = np.where(is_upward, ends, polygon), np.where(is_upward, polygon, ends)
    low, high = np.sort(np.stack([polygon[:, 1], ends[:, 1]]), axis=0)
    # An edge crosses the middles at row + 0.5 from its lower end, included, to its upper one
    first, after = (np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (low, high))
    counts = after - first
    done = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    while start < len(polygon):
        # As many edges as fit, but at least one
        stop = max(start + 1, int(np.searchsorted(done, done[start] + _CROSSINGS)) - 1)
        edges = np.repeat(np.arange(start, stop), counts[start:stop])
        rows = np.arange(len(edges)) - (done[edges] - done[start]) + first[edges]
        (x0, y0), (x1, y1) = polygon[edges].T, ends[edges].T
        if len(edges):
            yield rows, x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        start = stop


def paint(image_shape: ImageShape, shapes: Iterable[Region]) -> LabelMap:
    """Paint regions into a label map (H, W) uint8, later ones over earlier ones."""
    label = np.zeros(image_shape, np.uint8)
    for shape in shapes:
        height, width = shape.mask.shape
        part = label[shape.top : shape.top + height, shape.left : shape.left + width]
        part[shape.mask] = shape.class_id
    return label


def largest_first(shapes: Iterable[Region]) -> list[Region]:
    """Sort regions so that painting them leaves small ones on top.

    Where shapes overlap, the smaller one is as a rule the nearer one, or what was corrected.
    """
    return sorted(shapes, key=lambda shape: -shape.area)
