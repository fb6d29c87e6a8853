"""Images to test on, and the session that tests run graphs in."""

from __future__ import annotations

import pytest

from benchmarks.samples import VOC, synthetic, voc_images
from samrefine_runtime.backends import SessionOptions

__all__ = ["ONE_THREAD", "SHAPES", "VOC", "needs_voc", "synthetic", "voc_images"]

needs_voc = pytest.mark.skipif(not VOC.is_dir(), reason=f"no VOC images at {VOC}")

ONE_THREAD = SessionOptions(threads=1)

SHAPES = {
    "landscape": (90, 160),
    "portrait": (160, 90),
    "square": (128, 128),
    "tiny": (32, 48),
    "large": (2000, 3000),
}
"""(H, W)."""
