"""Training samples from the scene pool: crops, prompts and the masks they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_export.demo.pool import Shard
from samrefine_export.demo.shapes import Rng
from samrefine_export.sam.tiny_vit import PIXEL_MEAN, PIXEL_STD

_MEAN = np.array(PIXEL_MEAN, np.float32)
_STD = np.array(PIXEL_STD, np.float32)
_LEAST_CELLS = 12
"""A region smaller than this on the mask grid is no target."""


@dataclass(frozen=True)
class Batch:
    """B crops of side S with P prompts each."""

    image: NDArray[np.float32]
    """(B, 3, S, S) normalised."""
    region_map: NDArray[np.int64]
    """(B, S/2, S/2) region at each mask cell, -1 in the padding."""
    points: NDArray[np.float32]
    """(B, P, 2) x, y in pixels of the crop."""
    whole: NDArray[np.bool_]
    """(B, P, S/2, S/2) the thing under each point."""
    part: NDArray[np.bool_]
    """(B, P, S/2, S/2) the part under each point; the whole thing where it has no parts."""


def draw_batch(rng: Rng, data: Shard, images: int, prompts: int, side: int) -> Batch:
    """Draw scenes, crops and prompts at random: a function of the generator's state only."""
    samples = [
        _sample(rng, data, int(rng.integers(len(data.image))), prompts, side) for _ in range(images)
    ]
    return Batch(*(np.stack(arrays) for arrays in zip(*samples, strict=True)))


def _sample(
    rng: Rng, data: Shard, index: int, prompts: int, side: int
) -> tuple[NDArray[np.generic], ...]:
    image, parts = crop(rng, data.image[index], data.parts[index], side)
    part_region = data.part_region[index].astype(np.int64)
    # Half of the prompts evenly over the crop, half by region
    padding = parts < 0
    regions = np.where(padding, -1, part_region[parts])
    cells = np.flatnonzero(~padding)
    at = np.concatenate([
        rng.choice(cells, prompts // 2),
        _cells_by_region(rng, regions, data.region_class[index], prompts - prompts // 2),
    ])  # fmt: skip
    # Targets: the region under each point, and its part unless that is too small
    whole = regions == regions.ravel()[at][:, None, None]
    part = parts == parts.ravel()[at][:, None, None]
    small = part.sum((1, 2)) < _LEAST_CELLS
    part[small] = whole[small]
    # Points anywhere in their cells of 2 x 2 pixels
    y, x = np.divmod(at, side // 2)
    points = np.stack([x, y], 1) * 2 + rng.uniform(0, 2, (prompts, 2)) - 0.5
    return image, regions, points.astype(np.float32), whole, part


def crop(rng: Rng, image: NDArray[np.uint8], parts: NDArray[np.uint8], side: int) -> tuple[
    NDArray[np.float32], NDArray[np.int64]
]:  # fmt: skip
    """Crop, mirror, stretch and tint a scene at random.

    Returns:
        The normalised image (3, side, side), zero-padded at the right or bottom as SAM pads images
        that are not square, and part ids (side/2, side/2), -1 in the padding.
    """
    # Crop: square or stretched, 0.6 to 1 of the scene's side
    full = image.shape[0]
    high, wide = (int(full * rng.uniform(0.6, 1.0)) for _ in range(2))
    if rng.random() < 0.5:
        wide = high
    y, x = int(rng.integers(0, full - high + 1)), int(rng.integers(0, full - wide + 1))
    # Shape of the result: square, or with padding along one side
    out_h, out_w = side, side
    if rng.random() < 0.4:
        short = int(side * rng.uniform(0.6, 0.95)) // 2 * 2
        out_h, out_w = (short, side) if rng.random() < 0.5 else (side, short)
    view, ids = image[y : y + high, x : x + wide], parts[y : y + high, x : x + wide]
    if rng.random() < 0.5:
        view, ids = view[:, ::-1], ids[:, ::-1]
    # Resize the image
    method = cv2.INTER_AREA if out_h * out_w < high * wide else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(view), (out_w, out_h), interpolation=method)
    pixels = np.zeros((side, side, 3), np.float32)
    pixels[:out_h, :out_w] = (_tint(rng, small.astype(np.float32)) - _MEAN) / _STD
    # Sample the ids at the centres of the mask cells
    grid = np.full((side // 2, side // 2), -1, np.int64)
    rows = ((np.arange(out_h // 2) + 0.5) * high / (out_h // 2)).astype(int)
    columns = ((np.arange(out_w // 2) + 0.5) * wide / (out_w // 2)).astype(int)
    grid[: out_h // 2, : out_w // 2] = ids[rows[:, None], columns]
    return pixels.transpose(2, 0, 1), grid


def _tint(rng: Rng, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vary gain, contrast and saturation, at times channel order; 0 to 255 in and out."""
    if rng.random() < 0.3:
        pixels = pixels[..., rng.permutation(3)]
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.3, 1.3)
    pixels = pixels * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20)
    return np.clip(pixels, 0, 255).astype(np.float32)


def _cells_by_region(
    rng: Rng, regions: NDArray[np.int64], classes: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Draw cells (count,) by region first, class-bearing regions three times as often."""
    ids, sizes = np.unique(regions, return_counts=True)
    fit = (ids >= 0) & (sizes >= _LEAST_CELLS)
    ids = ids[fit] if fit.any() else ids[ids >= 0][-1:]
    weight = np.where(classes[ids] > 0, 3.0, 1.0)
    chosen = rng.choice(ids, count, p=weight / weight.sum())
    flat = regions.ravel()
    return np.array([rng.choice(np.flatnonzero(flat == r)) for r in chosen], np.int64)
