"""Where everything mode looks: point grids and image crops, as segment-anything places them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N, 2) XY"""


class Crop(NamedTuple):
    """A part of the photo that is encoded by itself."""

    box: tuple[int, int, int, int]
    """XYXY pixels, right and bottom exclusive"""
    layer: int
    """0 for the whole photo; layer i has 4^i crops"""


def point_grid(points_per_side: int) -> Points:
    """Evenly spaced points (n * n, 2) XY in [0, 1], row by row (`build_point_grid`)."""
    offset = 1 / (2 * max(points_per_side, 1))
    side = np.linspace(offset, 1 - offset, points_per_side)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def point_grids(points_per_side: int, layers: int, downscale_factor: int) -> list[Points]:
    """One grid a crop layer, the nth thinned by `downscale_factor ** n` a side."""
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(layers + 1)]
    return [point_grid(side) for side in sides]


def crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole photo of (H, W) `size` and the crops of each layer (`generate_crop_boxes`).

    Photos of a few pixels have fewer crops than a layer asks for: empty ones are left out.
    """
    height, width = size
    found = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / per_side))
        lefts, crop_width = _split(width, per_side, overlap)
        tops, crop_height = _split(height, per_side, overlap)
        found += [
            Crop((x, y, min(x + crop_width, width), min(y + crop_height, height)), layer)
            for x, y in product(lefts, tops)
            if x < width and y < height
        ]
    return found


def _split(length: int, parts: int, overlap: int) -> tuple[Sequence[int], int]:
    size = math.ceil((overlap * (parts - 1) + length) / parts)
    return [(size - overlap) * part for part in range(parts)], size


def touches_crop_edge(
    boxes: NDArray[np.int32], crop: Crop, size: tuple[int, int], tolerance: float = 20.0
) -> NDArray[np.bool_]:
    """Which boxes (N, 4) XYXY end within `tolerance` pixels of an edge of the crop that is no edge
    of the photo: their objects are likely cut off (`is_box_near_crop_edge`)."""
    near_crop = np.abs(boxes - np.array(crop.box)) <= tolerance
    near_photo = np.abs(boxes - np.array([0, 0, size[1], size[0]])) <= tolerance
    return np.asarray((near_crop & ~near_photo).any(axis=1))
