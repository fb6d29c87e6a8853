"""Greedy non-maximum suppression of boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_nms(
    boxes: NDArray[np.int32], scores: NDArray[np.float32], iou_threshold: float
) -> NDArray[np.intp]:
    """Which boxes stay, best first, as `torchvision.ops.nms` orders and rounds.

    Args:
        boxes: (N, 4) XYXY.
        scores: (N,); equal scores keep their order.
        iou_threshold: a box goes if its IoU with a better one that stays is above it.

    Returns:
        (K,) indices into boxes.
    """
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes[order].astype(np.float32).T
    areas = (right - left) * (bottom - top)
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = i + 1 + np.flatnonzero(alive[i + 1 :])
        width = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest])
        height = np.minimum(bottom[i], bottom[rest]) - np.maximum(top[i], top[rest])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):
            iou = (overlap / (areas[i] + areas[rest] - overlap)).astype(np.float64)
        alive[rest[iou > iou_threshold]] = False
    return order[alive]
