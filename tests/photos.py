"""Photos to test on: real ones where they are at hand, and synthetic ones of every shape."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

VOC = Path(__file__).parents[2] / "shared" / "data" / "voc"

needs_voc = pytest.mark.skipif(not VOC.is_dir(), reason=f"no VOC photos at {VOC}")

SHAPES = {
    "landscape": (90, 160),
    "portrait": (160, 90),
    "square": (128, 128),
    "tiny": (32, 48),
    "large": (2000, 3000),
}
"""(H, W)"""


def synthetic(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured blobs with some noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)


def voc_photos(count: int) -> list[Path]:
    """The first photos of the VOC sample, in the order of their ids."""
    return sorted((VOC / "images").glob("*.jpg"))[:count]
