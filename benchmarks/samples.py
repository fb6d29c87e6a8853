"""Images to measure and to test on: real ones where they are available, and synthetic ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

VOC = Path(os.environ.get("SAMREFINE_VOC", Path(__file__).parents[2] / "shared" / "data" / "voc"))
"""A sample of PASCAL VOC: `images/<id>.jpg`, pseudo labels `transcam/<id>.png`, ground truth
`gt/<id>.png`. The environment variable SAMREFINE_VOC names another folder of that layout."""


def voc_images(count: int) -> list[Path]:
    """Return the first images of the VOC sample by id, none where the sample is missing."""
    return sorted((VOC / "images").glob("*.jpg"))[:count]


def synthetic(image_shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Draw smooth coloured blobs with a little noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, image_shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noisy = smooth + rng.integers(-12, 13, smooth.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)
