"""Image-level labels to pixel labels: CAM, Segment Anything and SEPL, without torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samrefine_runtime.bundle import Bundle as Bundle
    from samrefine_runtime.cam import CamClassifier as CamClassifier
    from samrefine_runtime.cam import cam_to_label as cam_to_label
    from samrefine_runtime.errors import SamrefineError as SamrefineError
    from samrefine_runtime.evaluate import evaluate as evaluate
    from samrefine_runtime.image import read_image as read_image
    from samrefine_runtime.masks.masks import Masks as Masks
    from samrefine_runtime.pipeline import Labeler as Labeler
    from samrefine_runtime.refine import refine_labels as refine_labels
    from samrefine_runtime.sam.generator import MaskGenerator as MaskGenerator
    from samrefine_runtime.sam.predictor import Predictor as Predictor

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "bundle",
    "CamClassifier": "cam",
    "Labeler": "pipeline",
    "MaskGenerator": "sam.generator",
    "Masks": "masks.masks",
    "Predictor": "sam.predictor",
    "SamrefineError": "errors",
    "cam_to_label": "cam",
    "evaluate": "evaluate",
    "read_image": "image",
    "refine_labels": "refine",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `samrefine --help` must not wait for OpenCV."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"samrefine_runtime.{_HOMES[name]}"), name)
