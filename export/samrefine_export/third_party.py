"""What the project uses of segment-anything, torchvision and timm; import them from here only.

segment-anything imports torchvision for `resize` and `batched_nms`; the exporter uses neither
operator of torchvision's C++ library. A torchvision built for another torch fails at import with
"operator torchvision::nms does not exist"; declaring the operators is enough to import it. This
module does so before it imports segment-anything, so no other module depends on import order.
"""

# ruff: noqa: E402 (segment-anything is imported after torchvision's operators are declared)
from __future__ import annotations

import importlib
from types import ModuleType

import torch

from samrefine_export.errors import ExportError

_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _import_torchvision() -> ModuleType:
    """Import torchvision, declaring its operators where its C++ library cannot load."""
    try:
        # First without declarations: a library that loads declares its operators itself, once.
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name, schema in _OPERATORS.items():
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", schema)
        return importlib.import_module("torchvision")


torchvision = _import_torchvision()

from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import Attention as ViTAttention
from segment_anything.modeling.image_encoder import Block as ViTBlock
from segment_anything.modeling.image_encoder import get_rel_pos
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from segment_anything.utils import amg

torchvision_model = torchvision.models.get_model

__all__ = [
    "Attention",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "TwoWayAttentionBlock",
    "TwoWayTransformer",
    "ViTAttention",
    "ViTBlock",
    "amg",
    "get_rel_pos",
    "import_timm",
    "sam_model_registry",
    "torchvision",
    "torchvision_model",
]


def import_timm() -> ModuleType:
    """Return the package timm, imported on first use because only `timm:NAME` needs it.

    Raises:
        ExportError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ExportError("timm is not installed: pip install timm") from error
    return timm
