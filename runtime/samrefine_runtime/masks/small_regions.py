"""Removes small holes and islands from masks (SAM's `postprocess_small_regions`)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.masks.nms import box_nms


def remove_small_regions(masks: Masks, min_area: int, nms_thresh: float) -> Masks:
    """Fill holes and remove islands smaller than `min_area` pixels, then drop new duplicates.

    Masks that needed no change are preferred. Scores are not computed anew.

    Args:
        masks: masks of one image.
        min_area: area in pixels; smaller holes and islands are removed.
        nms_thresh: box IoU above which masks are duplicates.
    """
    # Clean one mask at a time, so that only one is ever unpacked
    cleaned_runs = [_without_small_regions(masks.dense(i), min_area) for i in range(len(masks))]
    cleaned = Masks.from_runs(
        masks.image_shape,
        [masks.runs(i) if runs is None else runs for i, runs in enumerate(cleaned_runs)],
        **{**masks.attributes(), "boxes": None},
    )
    # Prefer unchanged masks where boxes are duplicates; they keep the boxes they came with
    is_unchanged = np.array([runs is None for runs in cleaned_runs], bool)
    boxes = np.where(is_unchanged[:, None], masks.boxes, cleaned.boxes)
    keep = box_nms(cleaned.boxes, is_unchanged.astype(np.float32), nms_thresh)
    return replace(cleaned, boxes=boxes).select(keep)


def _without_small_regions(mask: NDArray[np.bool_], min_area: int) -> rle.Counts | None:
    """Return the runs of the cleaned mask, None if there was nothing to clean."""
    filled = _fill_small_holes(mask, min_area)
    cleaned = _drop_small_islands(mask if filled is None else filled, min_area)
    result = filled if cleaned is None else cleaned
    return None if result is None else rle.encode(result)


def _fill_small_holes(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_] | None:
    """Return the mask (H, W) without small holes, None if it has none."""
    regions, areas = _regions(~mask)
    is_small = areas < min_area
    is_small[0] = False  # the mask itself
    if not is_small.any():
        return None
    return np.asarray(mask | is_small[regions])


def _drop_small_islands(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_] | None:
    """Return the mask (H, W) without small islands, None if it has none."""
    regions, areas = _regions(mask)
    keep = areas >= min_area
    keep[0] = False  # the outside
    if keep[1:].all():
        return None
    if not keep.any():
        # As in the reference, the largest island stays where all are small: no mask vanishes
        keep[1 + areas[1:].argmax()] = True
    return np.asarray(keep[regions])


def _regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number the 8-connected regions (H, W) of a mask, 0 outside, and count their pixels (R,)."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(regions), np.asarray(stats[:, cv2.CC_STAT_AREA])
