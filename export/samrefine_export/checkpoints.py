"""Reads PyTorch checkpoints, running no code in them, and names what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samrefine_export.errors import CheckpointError, first_line
from samrefine_runtime.settings import Domain

SEED = Domain(int, 0, 2**63 - 1, is_optional=True)
"""What torch takes as the seed of random weights; None where there is a checkpoint."""

_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts store the weights."""
_PARALLEL_PREFIX = "module."
"""What DataParallel puts before every name."""
_SHOWN = 3
"""Names listed in a message before it ends in an ellipsis."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth`, `.pt` or `.safetensors` file, on the CPU.

    What training scripts wrap around them is taken off: the keys `state_dict` and `model`, and the
    `module.` of DataParallel. Entries that are not tensors are left out. Pickled code never runs.

    Raises:
        CheckpointError: no such file, truncated, not a checkpoint, or one that holds whole objects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist or is not a file")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    state = _tensors(content)
    if not state:
        raise CheckpointError(
            f"{path} holds no state dict: expected tensors by name, {_kind(content)}"
        )
    return state


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load the weights of `module` in place, every one of them.

    Only `num_batches_tracked`, which inference does not use and old checkpoints lack, may be
    missing.

    Args:
        module: the network to fill.
        state: weights by name, none left over.
        what: names the checkpoint and the network in the message, such as "a.pth as vit_b".

    Raises:
        CheckpointError: a name is missing or unexpected, or a shape differs; names the first few.
    """
    # Compare names and shapes
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    reshaped = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    # Report all differences at once
    faults = [
        _few(f"{len(missing)} missing", missing),
        _few(f"{len(unexpected)} unexpected", unexpected),
        _few(f"{len(reshaped)} of another shape", reshaped),
    ]
    if missing or unexpected or reshaped:
        found = "; ".join(fault for fault in faults if fault)
        raise CheckpointError(f"{what}: the weights belong to another network: {found}")
    module.load_state_dict(dict(state), strict=False)


def _load_pickle(path: Path) -> Any:
    """Return what a .pth or .pt file holds, refusing pickles that name code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of plain tensors: it is no PyTorch file, or it pickles "
            "whole objects, which could run code; save model.state_dict() instead"
        ) from error
    except Exception as error:  # damaged zip files and pickles raise many types
        raise CheckpointError(
            f"{path} is truncated or not a PyTorch checkpoint ({first_line(error)})"
        ) from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file  # timm brings it
    except ImportError as error:
        raise CheckpointError(f"{path} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # its error type is not public
        raise CheckpointError(f"{path} is damaged ({first_line(error)})") from error


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the named tensors in a file's content, empty if there are none."""
    while isinstance(content, Mapping):
        inner = next((content[k] for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            named = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
            return {name.removeprefix(_PARALLEL_PREFIX): tensor for name, tensor in named.items()}
        content = inner
    return {}


def _kind(content: Any) -> str:
    """Describe content that is no state dict, for a message."""
    if isinstance(content, Mapping):
        return _few("found only the keys", [str(key) for key in content]) or "found an empty dict"
    return f"found a {type(content).__name__}"


def _few(heading: str, names: Iterable[str]) -> str:
    """Return `heading (first, second, third, …)`, or nothing where there are no names."""
    names = list(names)
    if not names:
        return ""
    return f"{heading} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
