"""SEPL written a second time, mask by mask on full-size arrays, and masks to try it on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Label = NDArray[np.uint8]
Stack = NDArray[np.bool_]
"""(M, H, W)"""


def naive_sepl(
    label: Label,
    stack: Stack,
    method: str = "max_iou_imp2",
    *,
    min_inside: float = 0.5,
    min_cover: float = 0.85,
    max_area_ratio: float | None = None,
) -> Label:
    """SEPL as its text has it: classes ascending, each takes masks among those not taken yet."""
    out = np.zeros_like(label)
    taken = [False] * len(stack)
    owners = _largest_overlaps(label, stack) if method == "argmax" else []
    for c in range(1, 255):
        p_c = label == c
        if not p_c.any():
            continue
        cover = np.zeros(label.shape, bool)
        union = np.zeros(label.shape, bool)
        chosen = []
        for m, mask in enumerate(stack):
            if taken[m]:
                continue
            cover |= mask
            both = int((p_c & mask).sum())
            area = int(mask.sum())
            fits = both > min_inside * area
            if method in ("max_iou_imp2", "argmax"):
                small = max_area_ratio is None or area <= max_area_ratio * int(p_c.sum())
                fits = fits or (both / int(p_c.sum()) >= min_cover and small)
            if method == "argmax" and owners[m] != c:
                fits = False
            if fits:
                chosen.append(m)
                union |= mask
        for m in chosen:
            taken[m] = True
        region = union if method == "max_iou" else union | (p_c & ~cover)
        out[region] = c
    return out


def _largest_overlaps(label: Label, stack: Stack) -> list[int]:
    """The class that shares most pixels with each mask, the lower one of equals."""
    classes = [int(c) for c in np.unique(label) if 0 < c < 255]
    return [
        max(classes, key=lambda c: (int(((label == c) & mask).sum()), -c), default=0)
        for mask in stack
    ]


def made_up_masks(label: Label, count: int, seed: int) -> Stack:
    """Masks (count, H, W) of every kind a segmenter gives: rectangles, ellipses, cells of a
    mosaic, blobs with holes and islands, and the classes' own regions grown or shrunk."""
    rng = np.random.default_rng(seed)
    makers = (_rectangle, _ellipse, _cell, _blobs, _near_class)
    masks = [makers[i % len(makers)](label, rng) for i in range(count)]
    return np.array(masks, bool).reshape(count, *label.shape)


def _rectangle(label: Label, rng: np.random.Generator) -> NDArray[np.bool_]:
    mask = np.zeros(label.shape, bool)
    top, bottom = np.sort(rng.integers(0, label.shape[0] + 1, 2))
    left, right = np.sort(rng.integers(0, label.shape[1] + 1, 2))
    mask[top:bottom, left:right] = True
    return mask


def _ellipse(label: Label, rng: np.random.Generator) -> NDArray[np.bool_]:
    height, width = label.shape
    canvas = np.zeros(label.shape, np.uint8)
    centre = int(rng.integers(width)), int(rng.integers(height))
    axes = int(rng.integers(1, 2 + width // 3)), int(rng.integers(1, 2 + height // 3))
    cv2.ellipse(canvas, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
    return canvas > 0


def _cell(label: Label, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One superpixel: the pixels nearer to a seed than to nine others."""
    (top, left), *others = rng.random((10, 2)) * label.shape
    y, x = np.indices(label.shape, np.float32, sparse=True)
    mask = np.ones(label.shape, bool)
    for other_top, other_left in others:  # the half plane on this side of the middle
        middle_y, middle_x = (top + other_top) / 2, (left + other_left) / 2
        mask &= (y - middle_y) * (other_top - top) < (middle_x - x) * (other_left - left)
    return mask


def _blobs(label: Label, rng: np.random.Generator) -> NDArray[np.bool_]:
    noise = rng.normal(size=(6, 6)).astype(np.float32)
    smooth = cv2.resize(noise, label.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return smooth > rng.uniform(-0.5, 1)


def _near_class(label: Label, rng: np.random.Generator) -> NDArray[np.bool_]:
    region = (label == rng.choice(np.unique(label))).astype(np.uint8)
    side = int(rng.integers(1, 2 + min(label.shape) // 20))
    change = cv2.dilate if rng.random() < 0.5 else cv2.erode
    return change(region, np.ones((side, side), np.uint8)) > 0
