"""Masks as prompts: a mask of the image as the low-res logits that SAM's prompt encoder reads."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.bundle import SamSpec
from samrefine_runtime.image import resized_shape

_SURE = 8.0
"""Logit of a pixel that is all inside the mask; outside it is the opposite. SAM was trained on its
own earlier logits, which have about this size in the middle of an object."""


def low_res_logits(mask: NDArray[np.bool_], sam: SamSpec) -> NDArray[np.float32]:
    """Return the logits (1, h, w) float32 that stand for a mask (H, W) bool.

    They lie as SAM's own low-res masks do: the image is scaled to the longer side, and padded right
    and below with background.
    """
    h, w = sam.low_res_shape
    height, width = resized_shape(mask.shape, sam.input_side)
    shape = max(1, round(height * h / sam.input_side)), max(1, round(width * w / sam.input_side))
    # inside (h', w'): the fraction of each low-res pixel that the mask covers
    inside = cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    logits = np.full((1, h, w), -_SURE, np.float32)
    logits[0, : shape[0], : shape[1]] = _SURE * (2 * inside - 1)
    return logits
