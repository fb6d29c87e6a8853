"""Torch side: turns SAM and CAM checkpoints into bundles of ONNX graphs."""

from samrefine_export.third_party import make_importable

make_importable()

__version__ = "0.1.0"
