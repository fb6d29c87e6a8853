"""The files of a bundle: inside its folder, as their hashes say, and referring to no others."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from samrefine_runtime.bundle.limits import HINT, Limits
from samrefine_runtime.bundle.manifest import MANIFEST
from samrefine_runtime.bundle.onnx_files import ExternalData, external_data
from samrefine_runtime.bundle.parts import Graph
from samrefine_runtime.bundle.wire import WireError
from samrefine_runtime.errors import BundleError, printable

_PIECE_BYTES = 1 << 20
"""Size of the pieces in which files are hashed, 1 MiB."""

_SHOWN_DIGITS = 12
"""Digits of a hash that messages show; enough to see that two differ."""


def inside(folder: Path, file: str) -> Path:
    """Return the absolute path of a file of the bundle, without links.

    Raises BundleError if it lies outside the folder.
    """
    # Bundles are passed on: `..`, absolute paths and links must not reach other files
    path = _resolved(folder / file)
    if not path.is_relative_to(_resolved(folder)):
        raise BundleError(
            f"{printable(folder / MANIFEST)} names {file!r}, which lies outside the bundle"
        )
    return path


def check_files(graphs: Collection[Graph], limits: Limits, *, check_hashes: bool) -> None:
    """Check the files of all graphs: their sizes, their hashes, and what they refer to.

    Raises:
        BundleError: a file is missing, cannot be read, is too large or was changed, or an .onnx
            file is damaged or would make its reader open a file that is not the graph's.
    """
    try:
        sizes = {path: _size(graph, path, limits) for graph in graphs for path in graph.files}
        if sum(sizes.values()) > limits.bundle_bytes:
            raise BundleError(
                f"the bundle's files have {sum(sizes.values()) / 1e9:.1f} GB, expected at most "
                f"{limits.bundle_bytes / 1e9:.1f} GB; {HINT}"
            )
        if check_hashes:
            _check_hashes(graphs)
        for graph in graphs:
            _check_references(graph, sizes, limits)
    except OSError as error:
        raise BundleError(f"the bundle's files cannot be read ({printable(error)})") from error


def sha256_of(path: Path) -> str:
    """Compute the hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _resolved(path: Path) -> Path:
    # Unlike Path.resolve it takes links that lead in a circle, which are missing files then
    return Path(os.path.realpath(path))


def _size(graph: Graph, path: Path, limits: Limits) -> int:
    """Return the size of a file of a graph. Raises BundleError if it is missing or too large."""
    if not path.is_file():
        raise BundleError(f"graph {graph.name!r}: file {printable(path)} is missing")
    size = path.stat().st_size
    if path == graph.path and size > limits.graph_bytes:
        raise BundleError(
            f"graph {graph.name!r}: {printable(path)} has {size / 1e9:.1f} GB, expected at most "
            f"{limits.graph_bytes / 1e9:.1f} GB; {HINT}"
        )
    return size


def _check_hashes(graphs: Collection[Graph]) -> None:
    """Raise BundleError if a file is not what the manifest says."""
    # Each file once: graphs share external data
    actual: dict[Path, str] = {}
    for graph in graphs:
        for path, expected in graph.files.items():
            if path not in actual:
                actual[path] = sha256_of(path)
            if actual[path] != expected:
                raise BundleError(
                    f"graph {graph.name!r}: {printable(path)} has sha256 "
                    f"{actual[path][:_SHOWN_DIGITS]}…, the manifest says "
                    f"{expected[:_SHOWN_DIGITS]}…; the file is damaged or was changed, export the "
                    "bundle again"
                )


def _check_references(graph: Graph, sizes: Mapping[Path, int], limits: Limits) -> None:
    """Raise BundleError if a graph refers to anything but files that the manifest lists for it."""
    try:
        places = _references(graph.path, limits)
    except WireError as error:
        raise BundleError(
            f"graph {graph.name!r}: {printable(graph.path)} is refused: {printable(error)}"
        ) from None
    # Links are followed as the engine will follow them, from the folder of the .onnx file
    paths = {
        location: _resolved(graph.path.parent / location)
        for location in {place.location for place in places}
        if _is_plain(location)
    }
    for place in sorted(places):
        path = paths.get(place.location)
        if path is None or path not in graph.files:
            raise BundleError(
                f"graph {graph.name!r} reads external data from {place.location!r}, expected a "
                f"file that {MANIFEST} lists for it"
            )
        if place.offset + place.length > sizes[path]:
            raise BundleError(
                f"graph {graph.name!r} reads {place.length} bytes from {place.offset} of "
                f"{place.location!r}, which has {sizes[path]}"
            )


def _references(path: Path, limits: Limits) -> set[ExternalData]:
    """Find the external data of an .onnx file. Raises WireError."""
    with path.open("rb") as file:
        # Mapped, so that weights are not read; an empty file cannot be
        if path.stat().st_size == 0:
            raise WireError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return external_data(content, limits.graph_fields)


def _is_plain(location: str) -> bool:
    """Return whether a location is a relative path without tricks."""
    # ONNX Runtime takes locations with * for addresses in memory, and \ for / on Windows
    is_odd = not location.isprintable() or "*" in location or "\\" in location
    path = PurePosixPath(location)
    return not (is_odd or path.is_absolute() or ".." in path.parts)
