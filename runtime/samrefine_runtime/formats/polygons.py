"""Connected regions of a label map, and polygons around them.

Polygons run along pixel edges: pixel (0, 0) covers [0, 1] x [0, 1], as COCO's tools read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import IGNORE, LabelMap
from samrefine_runtime.masks import rle

Polygon = NDArray[np.float64]
"""(V, 2) float64 XY pixels, closed without repeating the first vertex."""

TOLERANCE = 0.25
"""Distance in pixels by which a polygon may deviate from the middles of its region's edges, to
save vertices. Up to this value every pixel centre stays on its side of the polygon, so drawing the
polygon restores the same pixels."""

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""(dy, dx) of the directions 0 to 3: east, south, west, north. One less is a turn to the left."""


@dataclass(frozen=True)
class Region:
    """Pixels of one class, 8-connected but for objects that are hidden in part.

    Attributes:
        class_id: value of the label map, 1 to 254.
        left, top: position of `mask` in the image, pixels.
        mask: (h, w) bool, the region inside its own box.
        confidence: how far it is to be trusted, 0 to 1 (`objects.find_objects`); None if that is
            not known.
    """

    class_id: int
    left: int
    top: int
    mask: NDArray[np.bool_]
    confidence: float | None = None

    @property
    def area(self) -> int:
        """Number of pixels in the region."""
        return int(np.count_nonzero(self.mask))

    @property
    def bbox(self) -> list[int]:
        """Box of the region, [left, top, width, height] in pixels."""
        height, width = self.mask.shape
        return [self.left, self.top, width, height]

    def paste(self, image_shape: ImageShape) -> NDArray[np.bool_]:
        """Return the region as (H, W) bool of the whole image."""
        full = np.zeros(image_shape, np.bool_)
        height, width = self.mask.shape
        full[self.top : self.top + height, self.left : self.left + width] = self.mask
        return full

    def runs(self, image_shape: ImageShape) -> rle.Counts:
        """Encode the region as run lengths (R,) in the whole image (H, W)."""
        # Encode only the columns (H, w) that the region touches
        (image_height, image_width), (height, width) = image_shape, self.mask.shape
        columns = np.zeros((image_height, width), np.bool_)
        columns[self.top : self.top + height] = self.mask
        counts = rle.encode(columns)
        # The columns left and right of it are zeros: lengthen the first and the last run
        counts[0] += self.left * image_height
        after = (image_width - self.left - width) * image_height
        if len(counts) % 2:
            counts[-1] += after
        elif after:
            counts = np.append(counts, np.uint32(after))
        return counts

    def polygon(self, tolerance: float = TOLERANCE) -> Polygon:
        """Return one polygon (V, 2) around the region, in pixels of the image.

        Holes are joined to it by cuts of no width, so any fill rule draws the region.

        Args:
            tolerance: pixels, see `TOLERANCE`; 0 keeps the corners of all pixels, above 0.25 thin
                parts may be lost.
        """
        rings = [_simplify(ring, tolerance) for ring in trace_rings(self.mask)]
        joined = join_rings(rings)
        joined += (self.left, self.top)
        return joined


def regions(label: LabelMap, num_classes: int, min_area: int = 1) -> Iterator[Region]:
    """Yield the regions of a label map, by class and then from top left.

    Background 0 and 255 have no regions.

    Args:
        label: (H, W) uint8.
        num_classes: number of classes C with background; higher values are an error.
        min_area: area in pixels below which a region is omitted.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class that is not below C.
    """
    for class_id in _classes(label, num_classes):
        yield from regions_of_class(label == class_id, class_id, min_area)


def whole_classes(label: LabelMap, num_classes: int, min_area: int = 1) -> Iterator[Region]:
    """Yield all pixels of each class as one region, connected or not; else as `regions`."""
    for class_id in _classes(label, num_classes):
        mask = label == class_id
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        region = Region(class_id, left, top, mask[top : top + height, left : left + width])
        if region.area >= min_area:
            yield region


def _classes(label: LabelMap, num_classes: int) -> list[int]:
    """List the foreground classes in a label map. Raises LabelError, see `regions`."""
    if label.ndim != 2 or label.dtype != np.uint8:
        raise LabelError(f"label is {label.shape} {label.dtype}, expected (H, W) uint8")
    classes = [int(value) for value in np.unique(label) if value not in (0, IGNORE)]
    if classes and classes[-1] >= num_classes:
        raise LabelError(f"label has class {classes[-1]}, expected below {num_classes}")
    return classes


def regions_of_class(
    mask: NDArray[np.bool_], class_id: int, min_area: int = 1, *, left: int = 0, top: int = 0
) -> Iterator[Region]:
    """Yield the regions of a mask (h, w) at a place in the image, each cut out to its own box."""
    # owner (h, w): index of each pixel's region; index 0 is the outside
    count, owner, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for index in range(1, count):
        x, y, width, height, area = stats[index].tolist()
        if area >= min_area:
            inside = owner[y : y + height, x : x + width] == index
            yield Region(class_id, left + x, top + y, inside)


def trace_rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Trace the closed paths along the pixel edges of one 8-connected region.

    A path has one vertex per pixel edge.

    Args:
        mask: (h, w) bool.

    Returns:
        Rings (V, 2) int64 XY: the outer one first, clockwise, then the holes.
    """
    edges = _edges(mask)
    rings = []
    # The topmost, leftmost vertex is on the outer ring; two edges may leave the same vertex
    for start in sorted(edges):
        while edges[start]:
            rings.append(_walk(edges, start))
    return rings


def _edges(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[int]]:
    """Find the edges between the region and its outside, as directions from each vertex (y, x).

    Edges have the region on their right.
    """
    # Four views (h + 1, w + 1): the pixels that meet in each vertex
    padded = np.pad(mask, 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    # An edge to the east has the region below and none above; the other directions by rotation
    leaving = (
        below_right & ~above_right,
        below_left & ~below_right,
        above_left & ~below_left,
        above_right & ~above_left,
    )
    edges: dict[tuple[int, int], list[int]] = {}
    for direction, starts in enumerate(leaving):
        for y, x in np.argwhere(starts).tolist():
            edges.setdefault((y, x), []).append(direction)
    return edges


def _walk(edges: dict[tuple[int, int], list[int]], start: tuple[int, int]) -> NDArray[np.int64]:
    """Follow and remove edges until back at the start, and return their vertices (V, 2) XY."""
    path = []
    vertex, direction = start, edges[start][0]
    while True:
        # Where two pixels of the region touch at a corner, a turn to the left passes from one to
        # the other: regions are 8-connected
        choices = edges[vertex]
        left = (direction - 1) % len(_STEPS)
        direction = left if left in choices else choices[0]
        choices.remove(direction)
        path.append((vertex[1], vertex[0]))
        vertex = (vertex[0] + _STEPS[direction][0], vertex[1] + _STEPS[direction][1])
        if vertex == start:
            return np.array(path, np.int64)


def _simplify(ring: NDArray[np.int64], tolerance: float) -> Polygon:
    """Reduce the vertices of a ring (V, 2) within a tolerance in pixels; 0 keeps all corners."""
    if tolerance <= 0:
        # Corners are the vertices where the direction changes
        before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
        corners: Polygon = ring[(before != after).any(axis=1)].astype(np.float64)
        return corners
    # Stairs lie within half a pixel of a straight line through the middles of their edges
    middles = ((ring + np.roll(ring, -1, 0)) / 2).astype(np.float32)
    fewer: Polygon = cv2.approxPolyDP(middles, tolerance, True)[:, 0].astype(np.float64)
    # Fewer than three vertices enclose nothing: keep the corners
    return fewer if len(fewer) >= 3 else _simplify(ring, 0)


def join_rings(rings: Sequence[Polygon]) -> Polygon:
    """Join an outer ring and holes to one polygon.

    Each hole is entered and left by the same cut, between its first vertex and the closest vertex
    of the rings before it.

    Args:
        rings: (V, 2) each, the outer ring first.
    """
    # points (P, 2): all vertices and those of the cuts; following (P,): the vertex after each
    points = np.concatenate([rings[0], *(_with_cut(hole) for hole in rings[1:])])
    following = np.arange(1, len(points) + 1)
    x, y = points.astype(np.float32).T.copy()
    start = len(rings[0])
    following[start - 1] = 0
    for hole in rings[1:]:
        # Find the vertex of the rings so far that is closest to the hole's first vertex
        at = int((np.abs(x[:start] - x[start]) + np.abs(y[:start] - y[start])).argmin())
        # Go from there around the hole, back to a copy of that vertex, and on as before
        end = start + len(hole) + 1
        points[end], x[end], y[end] = points[at], x[at], y[at]
        following[end], following[at] = following[at], start
        start = end + 1
    return points[_cycle(following.tolist())]


def _with_cut(hole: Polygon) -> Polygon:
    """Append to a hole its first vertex again, and room for the vertex where its cut starts."""
    return np.concatenate([hole, hole[:1], hole[:1]])


def _cycle(following: list[int]) -> list[int]:
    """List the indices that follow each other from 0 back to 0."""
    order = [0]
    while (index := following[order[-1]]) != 0:
        order.append(index)
    return order
