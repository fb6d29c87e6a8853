"""A JSON file of results: written where a user says, but never over a file of the user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samrefine_runtime.atomic import output_errors, write_bytes
from samrefine_runtime.errors import OutputError

_SIGNED = "written_by"
"""First key of every such file: what begins with it may be replaced."""


def format_results(results: Mapping[str, Any], version: str) -> str:
    """Return results as JSON text that names the package's version first."""
    return json.dumps({_SIGNED: f"samrefine {version}", **results}, indent=2) + "\n"


def check_replaceable(path: Path) -> None:
    """Raise OutputError unless a file of results can be written: nothing is there, or another one.

    Pipes and devices are written to as they are.
    """
    if not path.exists() or path.is_fifo() or path.is_char_device():
        return
    start = f'{{\n  "{_SIGNED}": "samrefine '.encode()
    with output_errors(path):
        is_ours = path.is_file() and _begin(path, len(start)) == start
    if not is_ours:
        raise OutputError(
            f"{path} is in the way and was not written by this package: choose another name"
        )


def _begin(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def write_results_file(path: Path, results: Mapping[str, Any], version: str) -> None:
    """Write a file of results. Raises OutputError."""
    check_replaceable(path)
    write_bytes(path, format_results(results, version).encode())
