"""Greedy non-maximum suppression of boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_nms(
    boxes: NDArray[np.int32], scores: NDArray[np.float32], iou_threshold: float
) -> NDArray[np.intp]:
    """Return which boxes stay, best first, with the order and rounding of `torchvision.ops.nms`.

    Args:
        boxes: (N, 4) XYXY, pixels.
        scores: (N,); equal scores keep their order.
        iou_threshold: a box is dropped if its IoU with a better one that stays exceeds it.

    Returns:
        (K,) indices into boxes.
    """
    # Best first; float32 as in torchvision, so that IoUs near the threshold round alike
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes[order].astype(np.float32).T
    areas = (right - left) * (bottom - top)
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        # Intersection over union of box i with the boxes (R,) after it that are still alive
        rest = i + 1 + np.flatnonzero(alive[i + 1 :])
        width = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest])
        height = np.minimum(bottom[i], bottom[rest]) - np.maximum(top[i], top[rest])
        overlap = np.maximum(width, 0) * np.maximum(height, 0)
        # Two boxes without area have IoU 0 / 0: NaN is above no threshold, so both stay
        with np.errstate(invalid="ignore"):
            iou = (overlap / (areas[i] + areas[rest] - overlap)).astype(np.float64)
        # Drop its duplicates
        alive[rest[iou > iou_threshold]] = False
    return order[alive]
