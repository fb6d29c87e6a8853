"""Reads `manifest.json`: whatever comes out follows `manifest.schema.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from samrefine_runtime.bundle import schema
from samrefine_runtime.bundle.limits import HINT, Limits
from samrefine_runtime.checks import described
from samrefine_runtime.errors import BundleError, printable

FORMAT_VERSION = 2
"""Version of the bundle format that this release reads and writes."""

_EXPORT_AGAIN = "; export it anew into another folder with samrefine export sam and export cam"
"""What to do with a bundle of an older version: its graphs are others."""

MANIFEST = "manifest.json"
"""File name of the manifest in a bundle."""

_SCHEMA = Path(__file__).parent.parent / "manifest.schema.json"

_DEEPEST = 32
"""Levels of lists and objects in each other; a manifest has six, its records may have more. Python
can read some hundreds, but not write them again."""

_MOST_DIGITS = 20
"""Digits of a whole number, those of 64 bits: longer ones are slow to read, and none is a size."""


def read_manifest(folder: Path, limits: Limits) -> dict[str, Any]:
    """Read the manifest of a bundle.

    Raises:
        BundleError: there is none, it is too large or no JSON, has another version, or does not
            follow the schema.
    """
    path = folder / MANIFEST
    manifest = _parsed(_text(folder, path, limits.manifest_bytes), path)
    if not isinstance(manifest, dict):
        raise BundleError(
            f"{printable(path)} holds a {type(manifest).__name__}, expected an object"
        )
    # The version before any entry: another version may name or nest them differently
    version = manifest.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        remedy = _EXPORT_AGAIN if version == 1 and version is not True else ""
        raise BundleError(
            f"{printable(path)} has format version {described(version)}, this release reads "
            f"{FORMAT_VERSION}{remedy}"
        )
    try:
        schema.check(manifest, _schema())
        for name, graph in manifest["graphs"].items():
            _check_names(graph, name)
    except BundleError as error:
        raise BundleError(f"{printable(path)} is not a valid manifest: {error}") from None
    return manifest


@cache
def _schema() -> schema.Schema:
    loaded: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return loaded


def _text(folder: Path, path: Path, most: int) -> bytes:
    """Read at most `most` bytes of a manifest. Raises BundleError."""
    try:
        if not folder.is_dir():
            raise BundleError(f"bundle {printable(folder)} does not exist or is not a folder")
        # Pipes and devices are no files: reading one may never end
        if not path.is_file():
            raise BundleError(f"{printable(folder)} is not a bundle: it has no {MANIFEST}")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise BundleError(
            f"bundle {printable(folder)} cannot be read ({printable(error)})"
        ) from error
    if len(content) > most:
        raise BundleError(
            f"{printable(path)} is larger than {most / 1e6:.1f} MB, which no manifest is; {HINT}"
        )
    return content


def _parsed(content: bytes, path: Path) -> Any:
    """Parse JSON in which names are unique and numbers finite. Raises BundleError."""
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_int=_short,
            parse_constant=_refuse,
        )
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{printable(path)} is not readable JSON ({printable(error)})") from error
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Python takes the last of two entries, other readers the first
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError(f"a name twice in {described([name for name, _ in pairs])}")
    return entries


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {described(text)} is too large")
    return value


def _short(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check_depth(value: Any) -> None:
    """Raise ValueError for lists and objects nested deeper than `_DEEPEST`."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for each in level for item in _items(each)]
    if level:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_names(graph: dict[str, Any], name: str) -> None:
    """Raise BundleError if a graph has two inputs, or two outputs, of one name."""
    for kind in ("inputs", "outputs"):
        names = [tensor["name"] for tensor in graph[kind]]
        if len(set(names)) < len(names):
            raise BundleError(
                f"graphs.{name}.{kind} are {described(names)}, expected no name twice"
            )
