"""Where everything mode looks: point grids and image crops, as segment-anything places them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N, 2) XY."""

CROP_EDGE_TOLERANCE = 20.0
"""Pixels from a crop's edge at which a mask counts as cut off (`is_box_near_crop_edge`'s atol)."""


class Crop(NamedTuple):
    """A part of the image that is encoded by itself."""

    box: tuple[int, int, int, int]
    """XYXY pixels, right and bottom exclusive."""
    layer: int
    """0 for the whole image; layer i has 4^i crops."""


def whole_image(image_shape: tuple[int, int]) -> Crop:
    """Return the crop that is the whole image (H, W)."""
    height, width = image_shape
    return Crop((0, 0, width, height), 0)


def point_grid(points_per_side: int) -> Points:
    """Place points evenly, (n * n, 2) XY in [0, 1], row by row (`build_point_grid`)."""
    # Half a step from the border, so that all cells are of one size
    offset = 1 / (2 * max(points_per_side, 1))
    side = np.linspace(offset, 1 - offset, points_per_side)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def point_grids(points_per_side: int, layers: int, downscale_factor: int) -> list[Points]:
    """Return one grid per crop layer, the nth thinned by `downscale_factor ** n` per side."""
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(layers + 1)]
    return [point_grid(side) for side in sides]


def crops(image_shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """Return the whole image (H, W) and the crops of each layer (`generate_crop_boxes`).

    Images of a few pixels have fewer crops than a layer asks for: empty ones are left out.
    """
    height, width = image_shape
    found = [whole_image(image_shape)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        # The same overlap for both sides, smaller in deeper layers
        overlap = int(overlap_ratio * min(image_shape) * (2 / per_side))
        lefts, crop_width = _split(width, per_side, overlap)
        tops, crop_height = _split(height, per_side, overlap)
        found += [
            Crop((x, y, min(x + crop_width, width), min(y + crop_height, height)), layer)
            for x, y in product(lefts, tops)
            if x < width and y < height
        ]
    return found


def _split(length: int, parts: int, overlap: int) -> tuple[Sequence[int], int]:
    """Cut a side into overlapping parts: their starts and the length of each."""
    part_length = math.ceil((overlap * (parts - 1) + length) / parts)
    return [(part_length - overlap) * part for part in range(parts)], part_length


def touches_crop_edge(
    boxes: NDArray[np.int32],
    crop: Crop,
    image_shape: tuple[int, int],
    tolerance: float = CROP_EDGE_TOLERANCE,
) -> NDArray[np.bool_]:
    """Find the boxes whose objects are likely cut off by the crop (`is_box_near_crop_edge`).

    Args:
        boxes: (N, 4) XYXY pixels of the image.
        crop: where the boxes were found.
        image_shape: (H, W).
        tolerance: pixels between a box and an edge of the crop that is no edge of the image.

    Returns:
        (N,) bool.
    """
    height, width = image_shape
    # Cut off by the crop, but not by the image itself
    near_crop = np.abs(boxes - np.array(crop.box)) <= tolerance
    near_image = np.abs(boxes - np.array([0, 0, width, height])) <= tolerance
    return np.asarray((near_crop & ~near_image).any(axis=1))
