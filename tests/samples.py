"""Images to test on, the session that tests run graphs in, and where committed data lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.samples import VOC, synthetic, voc_images
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.ort import OrtSession

__all__ = [
    "DATA",
    "ONE_THREAD",
    "SHAPES",
    "VOC",
    "cpu_session",
    "needs_voc",
    "pycocotools",
    "synthetic",
    "voc_images",
]

DATA = Path(__file__).parent / "data"

needs_voc = pytest.mark.skipif(not VOC.is_dir(), reason=f"no VOC images at {VOC}")

ONE_THREAD = SessionOptions(threads=1)


def cpu_session(path: Path) -> OrtSession:
    """Open an .onnx file that belongs to no bundle."""
    return OrtSession(path, ["CPUExecutionProvider"], ONE_THREAD)


SHAPES = {
    "landscape": (90, 160),
    "portrait": (160, 90),
    "square": (128, 128),
    "tiny": (32, 48),
    "large": (2000, 3000),
}
"""(H, W)."""


def pycocotools(module: str) -> Any:
    """Import a module of pycocotools, COCO's own program; skip the test where it is missing."""
    return pytest.importorskip(f"pycocotools.{module}", reason="pycocotools is not installed")
