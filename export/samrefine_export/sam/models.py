"""The published Segment Anything models, with official or with seeded random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from samrefine_export.checkpoints import load_strict, read_checkpoint
from samrefine_export.sam.tiny_vit import build_mobile_sam
from samrefine_export.third_party import Sam, sam_model_registry

MODELS: Mapping[str, Callable[[], Sam]] = {
    "vit_b": sam_model_registry["vit_b"],
    "vit_l": sam_model_registry["vit_l"],
    "vit_h": sam_model_registry["vit_h"],
    "mobile_sam": build_mobile_sam,
}
"""The function that builds each model, untrained; one line per image encoder."""


def load_sam(model: str, checkpoint: str | Path) -> Sam:
    """Return a published SAM with the weights of an official checkpoint, in evaluation mode.

    Args:
        model: one of MODELS.
        checkpoint: the official .pth or .pt file.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another model.
    """
    state = read_checkpoint(checkpoint)
    sam = MODELS[model]()
    load_strict(sam, state, f"{checkpoint} as {model}")
    return sam.eval()


def random_sam(build: Callable[[], Sam], seed: int) -> Sam:
    """Return a SAM with seeded random weights, in evaluation mode.

    No bias, norm or position table keeps the zeros and ones it is initialised with, so that an
    export that drops one of them is noticed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = build().eval()
        for name, value in sam.state_dict().items():
            _perturb(name, value)
    return sam


def _perturb(name: str, value: Tensor) -> None:
    """Move one entry of a state dict away from a trivial initial value, in place."""
    if name.endswith("running_var"):
        value.mul_(1 + 0.5 * torch.rand_like(value))
    elif not value.is_floating_point() or name.startswith("pixel_"):
        return
    elif value.ndim == 1 or "pos" in name or "attention_biases" in name:
        value.add_(0.1 * torch.randn_like(value))
