"""Regions as polygons that a person can edit: simple ones, without holes, of few vertices.

Vertices are the centres of the outermost pixels, and drawing a polygon includes its outline, as
labelme and X-AnyLabeling have it: pixel (0, 0) is the point (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samrefine_runtime.formats.polygons import Region, regions_of_class

EDITABLE = 2.0
"""Tolerance in pixels at which a region has about 20 vertices (docs/formats.md)."""

LEAST_IOU = 0.9
"""IoU of a drawn polygon with its part, below which its tolerance is halved: a tolerance that suits
an object would make a triangle of a speck."""

_FINEST = 0.25
"""Tolerance in pixels below which halving it further saves no vertex."""

_WIDTH = 0.2
"""Width in pixels given to the outline of a part that is a pixel or a line, so that it can be seen
and grabbed. Cut or rounded to whole numbers, its points are the same pixels."""

Mask = NDArray[np.bool_]
Contour = NDArray[Any]
"""(V, 1, 2) int32 XY pixels."""


def parts(region: Region, tolerance: float) -> Iterator[Region]:
    """Cut a region into 8-connected parts without holes, which together are the region.

    A hole that lies within the tolerance of its region is filled instead.

    Args:
        region: the region.
        tolerance: pixels.
    """
    filled = _fill_narrow_holes(region.mask, tolerance)
    for part in _connected(region, filled, region.left, region.top):
        yield from _cut(part)


def outline(part: Region, tolerance: float) -> list[list[float]]:
    """Return a polygon of at least three points [x, y] around a part without holes.

    Args:
        part: from `parts`.
        tolerance: pixels by which the polygon may deviate, halved until its IoU with the part is
            at least `LEAST_IOU`; 0 draws exactly the part.
    """
    pixels = part.mask.astype(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = _simplified(np.asarray(contours[0]), part.mask, tolerance)[:, 0]
    points += (part.left, part.top)
    corners: list[list[float]] = points.tolist()
    if len(corners) >= 3:
        return corners
    # A pixel or a line: from end to end, and back beside it
    (x, y), (to_x, to_y) = corners[0], corners[-1]
    if len(corners) == 1:
        to_x += _WIDTH
    return [[x, y], [to_x, to_y], [to_x + _WIDTH, to_y + _WIDTH], [x + _WIDTH, y + _WIDTH]]


def _simplified(contour: Contour, mask: Mask, tolerance: float) -> Contour:
    """Reduce the points of a contour as far as `outline` allows."""
    while tolerance >= _FINEST:
        fewer: Contour = cv2.approxPolyDP(contour, tolerance, True)
        if len(fewer) >= 3 and _iou(fewer, mask) >= LEAST_IOU:
            return fewer
        tolerance /= 2
    return contour


def _iou(contour: Contour, mask: Mask) -> float:
    """Compute the IoU of a contour, drawn as labelme does, with a mask (h, w)."""
    image = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(image).polygon(contour.ravel().tolist(), fill=1, outline=1)
    drawn = np.asarray(image)
    return float(np.count_nonzero(drawn & mask) / np.count_nonzero(drawn | mask))


def _holes(mask: Mask) -> tuple[NDArray[Any], list[int], NDArray[Any]]:
    """Find the 4-connected holes of a mask (h, w).

    Returns:
        owner (h + 2, w + 2) of each pixel of the padded mask, the indices of holes in it, and the
        boxes and areas of all owners as OpenCV's stats (N, 5).
    """
    outside = (~np.pad(mask, 1)).astype(np.uint8)
    count, owner, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    # Owner 0 is the mask; what holds the corner is the outside
    holes = [index for index in range(1, count) if index != owner[0, 0]]
    return owner, holes, np.asarray(stats)


def _fill_narrow_holes(mask: Mask, tolerance: float) -> Mask:
    """Fill the holes of a mask (h, w) in which no pixel is farther than `tolerance` from it.

    They stay where they are more of it than `LEAST_IOU` leaves.
    """
    owner, holes, _ = _holes(mask)
    if tolerance < 1 or not holes:
        return mask
    distance = cv2.distanceTransform(
        (owner > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    narrow = [index for index in holes if distance[owner == index].max() <= tolerance]
    filled = np.asarray(mask | np.isin(owner, narrow)[1:-1, 1:-1])
    is_small = np.count_nonzero(mask) >= LEAST_IOU * np.count_nonzero(filled)
    return filled if is_small else mask


def _cut(region: Region) -> Iterator[Region]:
    """Cut a region through its largest hole, and the halves again, until there are no holes."""
    _, holes, stats = _holes(region.mask)
    if not holes:
        yield region
        return
    largest = max(holes, key=lambda index: stats[index, cv2.CC_STAT_AREA])
    left, top, width, height = stats[largest, :4].tolist()
    # The padding moved the hole by one pixel
    column, row = left - 1 + width // 2, top - 1 + height // 2
    # Cut where fewer pixels are separated
    across, down = region.mask[:, column], region.mask[row]
    if np.count_nonzero(across) <= np.count_nonzero(down):
        halves = [(0, 0, region.mask[:, :column]), (column, 0, region.mask[:, column:])]
    else:
        halves = [(0, 0, region.mask[:row]), (0, row, region.mask[row:])]
    for x, y, half in halves:
        for part in _connected(region, half, region.left + x, region.top + y):
            yield from _cut(part)


def _connected(region: Region, mask: Mask, left: int, top: int) -> Iterator[Region]:
    """Yield the connected parts of some pixels of a region, (h, w) at a place in the image."""
    return regions_of_class(mask, region.class_id, left=left, top=top)
