"""Which points of the grid SAM is asked about."""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.masks.masks import Coverage, Masks
from samrefine_runtime.refine import IGNORE, Label
from samrefine_runtime.sam.grids import Crop, Points

PromptMode = Literal["guided", "hierarchical", "grid"]
"""grid: every point. hierarchical: every second one along each axis, then those that no mask
found so far explains. guided: hierarchical, and only in or near the pseudo label"""
PROMPT_MODES: tuple[str, ...] = get_args(PromptMode)

_EXPLAINS = 0.5
"""share of the photo; what is larger is rather what things lie on than a thing"""


def in_rounds(grid: Points) -> list[Points]:
    """A grid (N, 2) XY split into every second point along each axis, and the rest."""
    ranks = [np.unique(axis, return_inverse=True)[1].reshape(-1) for axis in grid.T]
    first = (ranks[0] % 2 == 1) & (ranks[1] % 2 == 1)
    return [grid[first], grid[~first]]


def points_in(crop: Crop, grid: Points, region: NDArray[np.bool_] | None) -> Points:
    """Grid points (N, 2) XY in pixels of the crop, those inside `region` of the photo only."""
    left, top, right, bottom = crop.box
    points: Points = grid * np.array([right - left, bottom - top])
    return points if region is None else points[_at(points, crop, region)]


def unexplained(points: Points, crop: Crop, masks: Masks) -> Points:
    """The points (N, 2) XY in pixels of the crop that lie in no mask of at most half the photo."""
    if len(masks) == 0:
        return points
    height, width = masks.size
    explains = masks.areas <= _EXPLAINS * height * width
    covered = Coverage(masks).count(explains).reshape(width, height).T > 0
    return points[~_at(points, crop, covered)]


def prompt_region(pseudo_label: Label, margin: float = 1 / 32) -> NDArray[np.bool_]:
    """Where a point prompt can lead to a mask that matters to the refinement, (H, W) bool.

    A mask matters if it overlaps the pseudo label, and such a mask is found from the points it
    has there; the margin adds the points just beside it.

    Args:
        pseudo_label: (H, W) uint8.
        margin: of the longer side; the default is one step of SAM's grid.
    """
    labelled = ((pseudo_label > 0) & (pseudo_label != IGNORE)).astype(np.uint8)
    reach = 2 * math.ceil(margin * max(pseudo_label.shape)) + 1
    return np.asarray(cv2.dilate(labelled, np.ones((reach, reach), np.uint8)) > 0)


def _at(points: Points, crop: Crop, region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What `region` (H, W) of the photo says at points (N, 2) of a crop."""
    x, y = (points + np.array(crop.box[:2])).astype(np.intp).T
    inside = region[y.clip(0, region.shape[0] - 1), x.clip(0, region.shape[1] - 1)]
    return np.asarray(inside.astype(bool))
