"""Lets segment-anything import where torchvision's compiled operators do not load.

segment-anything imports torchvision for `resize` and `batched_nms`; the exporter uses neither
operator of torchvision's C++ library. A torchvision built for another torch fails at import with
"operator torchvision::nms does not exist"; declaring the operators is enough to import it.
"""

import importlib

import torch

_OPERATORS = (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
)


def make_importable() -> None:
    """Import torchvision, declaring its missing operators where its C++ library cannot load."""
    for name, schema in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
    importlib.import_module("torchvision")
