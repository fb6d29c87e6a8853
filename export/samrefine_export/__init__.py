"""Torch side: turns SAM and CAM checkpoints into bundles of ONNX graphs, and pulls checkpoints."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samrefine_export.cam import export_cam
    from samrefine_export.sam import export_sam
    from samrefine_export.weights.pull import pull

__all__ = ["__version__", "export_cam", "export_sam", "pull"]

__version__ = "0.1.0"

_ROOMS = {
    "export_cam": "samrefine_export.cam",
    "export_sam": "samrefine_export.sam",
    "pull": "samrefine_export.weights.pull",
}


def __getattr__(name: str) -> object:
    """Import torch and its like only when an export function is asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
