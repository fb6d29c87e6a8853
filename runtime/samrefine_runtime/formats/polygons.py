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
"""(V, 2) float64 XY pixels, closed without repeating the first vertex"""

TOLERANCE = 0.25
"""pixels by which a polygon may leave the middles of its region's edges, to save vertices; up to
here every pixel centre stays on its side, so drawing the polygon gives back the same pixels"""

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""(dy, dx) of east, south, west, north"""


@dataclass(frozen=True)
class Region:
    """8-connected pixels of one class.

    Attributes:
        class_id: value of the label map, 1 to 254.
        left, top: position of `mask` in the image, pixels.
        mask: (h, w) bool, the region inside its own box.
    """

    class_id: int
    left: int
    top: int
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Pixels in the region."""
        return int(np.count_nonzero(self.mask))

    @property
    def bbox(self) -> list[int]:
        """[left, top, width, height] in pixels."""
        height, width = self.mask.shape
        return [self.left, self.top, width, height]

    def paste(self, image_shape: ImageShape) -> NDArray[np.bool_]:
        """The region as (H, W) bool of the whole image."""
        full = np.zeros(image_shape, np.bool_)
        height, width = self.mask.shape
        full[self.top : self.top + height, self.left : self.left + width] = self.mask
        return full

    def runs(self, image_shape: ImageShape) -> rle.Counts:
        """Run lengths of the region in the whole image (H, W)."""
        (image_height, image_width), (height, width) = image_shape, self.mask.shape
        columns = np.zeros((image_height, width), np.bool_)
        columns[self.top : self.top + height] = self.mask
        counts = rle.encode(columns)
        counts[0] += self.left * image_height
        after = (image_width - self.left - width) * image_height
        if len(counts) % 2:
            counts[-1] += after
        elif after:
            counts = np.append(counts, np.uint32(after))
        return counts

    def polygon(self, tolerance: float = TOLERANCE) -> Polygon:
        """One polygon (V, 2) around the region in the image, holes joined to it by cuts of no
        width; drawn by any fill rule it gives the region back.

        Args:
            tolerance: pixels, see `TOLERANCE`; 0 keeps the corners of all pixels, above 0.25 thin
                parts may get lost.
        """
        rings = [_simplify(ring, tolerance) for ring in trace_rings(self.mask)]
        joined = join_rings(rings)
        joined += (self.left, self.top)
        return joined


def regions(label: LabelMap, num_classes: int, min_area: int = 1) -> Iterator[Region]:
    """The regions of a label map (H, W) uint8, by class and then from top left.

    Background 0 and 255 have no regions.

    Args:
        num_classes: classes C with background; higher values are an error.
        min_area: pixels below which a region is left out.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class that is not below C.
    """
    if label.ndim != 2 or label.dtype != np.uint8:
        raise LabelError(f"label is {label.shape} {label.dtype}, expected (H, W) uint8")
    classes = [int(value) for value in np.unique(label) if value not in (0, IGNORE)]
    if classes and classes[-1] >= num_classes:
        raise LabelError(f"label has class {classes[-1]}, expected below {num_classes}")
    for class_id in classes:
        yield from _regions_of_class(label == class_id, class_id, min_area)


def _regions_of_class(mask: NDArray[np.bool_], class_id: int, min_area: int) -> Iterator[Region]:
    count, owner, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for index in range(1, count):
        left, top, width, height, area = stats[index].tolist()
        if area >= min_area:
            inside = owner[top : top + height, left : left + width] == index
            yield Region(class_id, left, top, inside)


def trace_rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Closed paths along the pixel edges of one 8-connected region, one vertex a pixel.

    Args:
        mask: (h, w) bool.

    Returns:
        Rings (V, 2) int64 XY: the outer one first, clockwise, then the holes.
    """
    edges = _edges(mask)
    rings = []
    for start in sorted(edges):
        while edges[start]:
            rings.append(_walk(edges, start))
    return rings


def _edges(mask: NDArray[np.bool_]) -> dict[tuple[int, int], list[int]]:
    """Directions in which edges with the region on their right leave each vertex (y, x)."""
    padded = np.pad(mask, 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
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
    """Follow and remove edges until back at the start. Where two pixels of the region touch at
    a corner, turning left passes from one to the other."""
    path = []
    vertex, direction = start, edges[start][0]
    while True:
        choices = edges[vertex]
        left = (direction - 1) % 4
        direction = left if left in choices else choices[0]
        choices.remove(direction)
        path.append((vertex[1], vertex[0]))
        vertex = (vertex[0] + _STEPS[direction][0], vertex[1] + _STEPS[direction][1])
        if vertex == start:
            return np.array(path, np.int64)


def _simplify(ring: NDArray[np.int64], tolerance: float) -> Polygon:
    if tolerance <= 0:
        before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
        corners: Polygon = ring[(before != after).any(axis=1)].astype(np.float64)
        return corners
    # Stairs lie within half a pixel of a straight line through the middles of their edges.
    middles = ((ring + np.roll(ring, -1, 0)) / 2).astype(np.float32)
    fewer: Polygon = cv2.approxPolyDP(middles, tolerance, True)[:, 0].astype(np.float64)
    return fewer if len(fewer) >= 3 else _simplify(ring, 0)


def join_rings(rings: Sequence[Polygon]) -> Polygon:
    """One polygon of an outer ring and holes: each hole is entered and left by the same cut, from
    its first vertex to the closest one of the rings before it."""
    points = np.concatenate([rings[0], *(_with_cut(hole) for hole in rings[1:])])
    following = np.arange(1, len(points) + 1)
    x, y = points.astype(np.float32).T.copy()
    start = len(rings[0])
    following[start - 1] = 0
    for hole in rings[1:]:
        at = int((np.abs(x[:start] - x[start]) + np.abs(y[:start] - y[start])).argmin())
        end = start + len(hole) + 1
        points[end], x[end], y[end] = points[at], x[at], y[at]
        following[end], following[at] = following[at], start
        start = end + 1
    return points[_cycle(following.tolist())]


def _with_cut(hole: Polygon) -> Polygon:
    """The hole, its first vertex again, and room for the vertex where its cut starts."""
    return np.concatenate([hole, hole[:1], hole[:1]])


def _cycle(following: list[int]) -> list[int]:
    order = [0]
    while (index := following[order[-1]]) != 0:
        order.append(index)
    return order
