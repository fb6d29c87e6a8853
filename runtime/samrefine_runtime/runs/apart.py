"""Outputs and inputs are kept in different places."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from samrefine_runtime.errors import SettingsError

_Node = tuple[int, int]
"""Device and inode: the same for all names of a folder, whatever links or mounts lead to it."""


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Raise SettingsError if an output folder is an input, or lies inside or around one.

    Args:
        out: the output folder, which need not exist.
        inputs: files and folders that the run reads.
    """
    above_out = _with_parents(out)
    for path in inputs:
        above_input = _with_parents(path)
        if above_out[0] is not None and above_out[0] == above_input[0]:
            raise SettingsError(f"{out} is an input: choose another output folder")
        if path.is_dir() and above_input[0] in above_out:
            raise SettingsError(f"{out} lies inside the input {path}: choose another output folder")
        if above_out[0] is not None and above_out[0] in above_input:
            raise SettingsError(f"{out} holds the input {path}: choose another output folder")


def _with_parents(path: Path) -> list[_Node | None]:
    """Return the nodes of a path, None if it does not exist, and of all folders above it."""
    resolved = Path(os.path.realpath(path))
    return [_node(each) for each in (resolved, *resolved.parents)]


def _node(path: Path) -> _Node | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
