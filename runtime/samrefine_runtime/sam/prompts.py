"""Which points of the grid become prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import SettingsError
from samrefine_runtime.labels import IGNORE, LabelMap
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.sam.grids import Crop, Points

PromptMode = Literal["guided", "near", "hierarchical", "grid"]
"""A name in PROMPT_MODES."""


def one_round(grid: Points) -> list[Points]:
    """Return the whole grid (N, 2) XY as the only round."""
    return [grid]


def coarse_to_fine(grid: Points) -> list[Points]:
    """Split a grid (N, 2) XY into every second point along each axis, and the rest."""
    # Row and column of each point by rank, since grids may be custom
    ranks = [np.unique(axis, return_inverse=True)[1].reshape(-1) for axis in grid.T]
    is_coarse = (ranks[0] % 2 == 1) & (ranks[1] % 2 == 1)
    return [grid[is_coarse], grid[~is_coarse]]


@dataclass(frozen=True)
class PromptPlan:
    """How a prompt mode chooses points."""

    help: str
    """One phrase for the command line."""
    rounds: Callable[[Points], list[Points]]
    """Splits a grid (N, 2) into rounds; a round skips the points that masks of earlier rounds
    cover."""
    needs_pseudo_label: bool = False
    """Whether only points in or near the pseudo label are asked."""


PROMPT_MODES: Mapping[PromptMode, PromptPlan] = {
    "guided": PromptPlan(
        "coarse to fine, in or near the pseudo label only", coarse_to_fine, needs_pseudo_label=True
    ),
    "near": PromptPlan(
        "every point in or near the pseudo label, as the graph label.onnx does",
        one_round,
        needs_pseudo_label=True,
    ),
    "hierarchical": PromptPlan("coarse to fine, skipping points in masks", coarse_to_fine),
    "grid": PromptPlan("every point, as SAM does", one_round),
}

_MAX_COVER = 0.5
"""Fraction of the image above which a mask does not cover its points: what is larger is rather
the ground that things lie on than a thing. Chosen on 200 drawn scenes and 150 VOC images."""

_MARGIN = 1 / 32
"""Fraction of the longer side: one step of SAM's default grid."""


def prompt_region(
    mode: PromptMode, pseudo_label: LabelMap | None, image_shape: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Return where a prompt mode may ask, (H, W) bool, or None for everywhere.

    Raises:
        SettingsError: the mode needs a pseudo label, and there is none or one of another shape.
    """
    if not PROMPT_MODES[mode].needs_pseudo_label:
        return None
    if pseudo_label is None:
        raise SettingsError(f"{mode} prompts need a pseudo label; without one, use grid")
    if pseudo_label.shape != image_shape:
        raise SettingsError(
            f"pseudo label is {pseudo_label.shape}, expected {image_shape} (H, W) as its image"
        )
    return near_label(pseudo_label)


def near_label(pseudo_label: LabelMap, margin: float = _MARGIN) -> NDArray[np.bool_]:
    """Find where a point prompt can lead to a mask that matters to the refinement.

    A mask matters if it overlaps the pseudo label, and such a mask is found from the points it
    has there; the margin adds the points just beside it.

    Args:
        pseudo_label: (H, W) uint8.
        margin: fraction of the longer side.

    Returns:
        (H, W) bool.
    """
    labelled = ((pseudo_label > 0) & (pseudo_label != IGNORE)).astype(np.uint8)
    # An odd side, so that the margin is the same on every side
    reach = 2 * math.ceil(margin * max(pseudo_label.shape)) + 1
    return np.asarray(cv2.dilate(labelled, np.ones((reach, reach), np.uint8)) > 0)


def points_in(crop: Crop, grid: Points, region: NDArray[np.bool_] | None) -> Points:
    """Scale a grid to a crop, keeping the points inside `region` (H, W) of the image.

    Args:
        crop: the part of the image that is encoded.
        grid: (N, 2) XY in [0, 1].
        region: (H, W) bool, None to keep all.

    Returns:
        (K, 2) XY in pixels of the crop.
    """
    left, top, right, bottom = crop.box
    points: Points = grid * np.array([right - left, bottom - top])
    return points if region is None else points[_at(points, crop, region)]


def uncovered(points: Points, crop: Crop, masks: Masks) -> Points:
    """Return the points (N, 2) XY in pixels of the crop that lie in no mask, large masks aside."""
    if len(masks) == 0:
        return points
    height, width = masks.image_shape
    # Look up the points in the runs of the masks that are small enough
    y, x = _pixels(points, crop, masks.image_shape)
    positions, place = np.unique(x * height + y, return_inverse=True)
    small_enough = masks.areas <= _MAX_COVER * height * width
    covered = masks.spans().of(small_enough).at(positions).cover(len(positions)) > 0
    left: Points = points[~covered[place.reshape(-1)]]
    return left


def _at(points: Points, crop: Crop, region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Look up `region` (H, W) of the image at points (N, 2) of a crop."""
    y, x = _pixels(points, crop, region.shape)
    return np.asarray(region[y, x].astype(bool))


def _pixels(
    points: Points, crop: Crop, image_shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows (N,) and columns (N,) of the image at points (N, 2) of a crop."""
    # Points on the right or lower border belong to the last pixel
    x, y = (points + np.array(crop.box[:2])).astype(np.intp).T
    return y.clip(0, image_shape[0] - 1), x.clip(0, image_shape[1] - 1)
