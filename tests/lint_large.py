"""Lints ViT-L and ViT-H at their real depth: `python -m tests.lint_large` (12 GB of memory).

Not a test: `tests/export/test_lint.py` has the same operators in two blocks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from samrefine_export.graph import export_graph
from samrefine_export.lint import refusals, slow_attention
from samrefine_export.sam import MODELS
from samrefine_export.sam.encoder import with_plain_attention


def lint_encoder(model: str) -> list[str]:
    """Export the encoder of a published ViT, untrained, and return what keeps engines from it."""
    encoder = with_plain_attention(MODELS[model]().image_encoder.eval().requires_grad_(False))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        export_graph(encoder, {"image": torch.zeros(1, 3, 1024, 1024)}, ["embedding"], path)
        found = [f"{name}: {text}" for name, texts in refusals(path).items() for text in texts]
        return found + slow_attention(path)


if __name__ == "__main__":
    for name in ("vit_l", "vit_h"):
        print(name, lint_encoder(name) or "every engine takes it, attention fused")  # noqa: T201
