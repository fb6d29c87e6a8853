"""Where pulled weights lie on this machine, and checkpoints that are given by name."""

from __future__ import annotations

import os
from pathlib import Path

from samrefine_export.errors import CheckpointError
from samrefine_export.weights.registry import Weights, known_weights
from samrefine_runtime.checks import StrPath, as_path
from samrefine_runtime.errors import did_you_mean

VARIABLE = "SAMREFINE_CACHE"
"""Environment variable with the folder that holds what was pulled."""


def weights_path(weights: Weights) -> Path:
    """Return where weights lie once they are pulled: `<cache>/weights/<name>/<file>`.

    The cache is the folder SAMREFINE_CACHE, else `samrefine` in XDG_CACHE_HOME or `~/.cache`.
    """
    return _cache() / "weights" / weights.name / weights.file


def _cache() -> Path:
    if own := os.environ.get(VARIABLE):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samrefine"


def checkpoint_path(checkpoint: StrPath, parameter: str = "checkpoint") -> Path:
    """Return the file of a checkpoint that is given as a path, or as the name of pulled weights.

    A file that exists comes before weights of that name. Nothing is ever pulled here.

    Args:
        checkpoint: path or name.
        parameter: what the message calls it.

    Raises:
        CheckpointError: there is no such file; the message says how to get weights of that name.
        RegistryError: a registry of the user cannot be read.
    """
    path = as_path(checkpoint, parameter, CheckpointError)
    if path.is_file():
        return path
    known = known_weights()
    if str(checkpoint) in known:
        return _pulled(known[str(checkpoint)])
    hint = did_you_mean(checkpoint, known)
    raise CheckpointError(f"{parameter} {path} does not exist or is not a file{hint}")


def _pulled(weights: Weights) -> Path:
    """Return the file of weights in the cache. Raises CheckpointError unless it is there, whole."""
    path = weights_path(weights)
    if not path.is_file():
        raise CheckpointError(
            f"the weights {weights.name} are not on this machine yet: samrefine pull {weights.name}"
        )
    size = path.stat().st_size
    if weights.size not in (None, size):
        raise CheckpointError(
            f"{path} has {size} bytes, expected {weights.size}: samrefine pull {weights.name} "
            "replaces it"
        )
    return path
