"""The bundle: a folder with `manifest.json` and the ONNX graphs it names (specified in README)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import BundleError
from samrefine_runtime.settings import Domain

FORMAT_VERSION = 1
"""Version of the bundle format that this release reads and writes."""

MANIFEST = "manifest.json"
"""File name of the manifest in a bundle."""

_PIECE_BYTES = 1 << 20
"""Size of the pieces in which files are hashed, 1 MiB."""

_SHOWN_DIGITS = 12
"""Digits of a hash that messages show; enough to see that two differ."""

LOW_RES_SCALE = 4
"""Low-res mask pixels per embedding position along one side: SAM's mask decoder ends in two
transposed convolutions of stride 2 (`MaskDecoder.output_upscaling`)."""

EMBEDDED: Mapping[str, Path] = {"demo": Path(__file__).parent / "demo_bundle"}
"""Bundles that this package carries, by the names that stand for their folders."""


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of a bundle."""

    name: str
    """Name in the manifest, such as "encoder"."""
    path: Path
    """Absolute path of the .onnx file."""
    files: Mapping[Path, str]
    """Hex sha256 of every file of the graph, itself and its external data, by absolute path."""
    inputs: tuple[dict[str, Any], ...]
    """Name, dtype and shape of each input; a string in a shape names a dynamic axis."""
    outputs: tuple[dict[str, Any], ...]
    """Name, dtype and shape of each output, as for the inputs."""


@dataclass(frozen=True)
class SamSpec:
    """Properties of a bundle's SAM that the runtime uses."""

    input_side: int
    """Side of the encoder's square input, pixels; an image's longer side is resized to it."""
    mean: NDArray[np.float32]
    """Mean (3,) RGB, subtracted from values 0 to 255."""
    std: NDArray[np.float32]
    """Standard deviation (3,) RGB, by which the difference is divided."""
    embedding: tuple[int, int, int]
    """Shape (channels, height, width) of the image embedding."""
    mask_threshold: float
    """Threshold of the mask: pixels with a higher logit are inside."""

    @property
    def low_res_shape(self) -> tuple[int, int]:
        """Shape (h, w) of the decoder's low-res masks, pixels."""
        _, height, width = self.embedding
        return LOW_RES_SCALE * height, LOW_RES_SCALE * width


@dataclass(frozen=True)
class CamSpec:
    """Properties of a bundle's CAM classifier that the runtime uses."""

    classes: tuple[str, ...]
    """Foreground class names; label value v is classes[v - 1]."""
    mean: NDArray[np.float32]
    """Mean (3,) RGB, subtracted from values 0 to 1."""
    std: NDArray[np.float32]
    """Standard deviation (3,) RGB, by which the difference is divided."""
    stride: int
    """Image pixels per CAM position."""
    has_background: bool
    """Whether the first map is the network's own background."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: files that are checked, but no session yet."""

    path: Path
    """Folder of the bundle."""
    name: str
    """Name of the model, from the manifest."""
    graphs: Mapping[str, Graph]
    """Graphs by name."""
    sam: SamSpec | None
    """Properties of the SAM, None in a bundle without one."""
    cam: CamSpec | None
    """Properties of the CAM classifier, None in a bundle without one."""
    precision: str
    """Precision of the weights, such as "fp32"."""
    defaults: Mapping[str, Any]
    """Default settings by name, used where the caller sets none; the CAM's are in `manifest`."""
    random_seed: int | None
    """Seed of random weights; None for trained ones."""
    manifest: Mapping[str, Any] = field(repr=False)
    """Content of manifest.json."""

    @classmethod
    def load(cls, path: StrPath, *, check_hashes: bool = True) -> Bundle:
        """Read and check a bundle folder.

        Args:
            path: the folder that holds manifest.json, or a name in EMBEDDED such as "demo".
            check_hashes: compare every file with its sha256 (about 1 s per GB).

        Raises:
            BundleError: missing folder or file, damaged manifest, unknown format version, a path
                outside the folder, or a file whose hash differs.
            SettingsError: `check_hashes` is neither True nor False.
        """
        Domain(bool).check("check_hashes", check_hashes)
        # The manifest first, then the paths in it, and the files last: hashing is slow
        folder = as_path(path, "path", BundleError)
        folder = EMBEDDED[path] if isinstance(path, str) and path in EMBEDDED else folder
        manifest = _read_manifest(folder)
        try:
            bundle = _from_manifest(folder, manifest)
        # Entries that are missing or of another type; BundleError passes with its own message
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise BundleError(f"{folder / MANIFEST} is not a valid manifest ({what})") from error
        for graph in bundle.graphs.values():
            _check_files(graph, check_hashes)
        return bundle

    def graph(self, name: str) -> Graph:
        """Return the graph called `name`. Raises BundleError that lists the available ones."""
        if not isinstance(name, str) or name not in self.graphs:
            available = ", ".join(self.graphs) or "none"
            raise BundleError(
                f"bundle {self.path} has no {described(name)} graph (it has: {available})"
            )
        return self.graphs[name]

    def require_sam(self) -> SamSpec:
        """Return the properties of the SAM. Raises BundleError in a bundle without SAM."""
        if self.sam is None:
            raise BundleError(f"bundle {self.path} holds no SAM; make one with export sam")
        return self.sam

    def require_cam(self) -> CamSpec:
        """Return the properties of the classifier. Raises BundleError in a bundle without one."""
        if self.cam is None:
            raise BundleError(f"bundle {self.path} holds no CAM classifier; add it with export cam")
        return self.cam


def sha256_of(path: Path) -> str:
    """Compute the hex sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle and check its version. Raises BundleError."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"bundle {folder} does not exist or is not a folder")
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BundleError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds a {type(manifest).__name__}, expected an object")
    # The version before any entry: another version may name or nest them differently
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version!r}, this release reads {FORMAT_VERSION}"
        )
    return manifest


def _from_manifest(folder: Path, manifest: dict[str, Any]) -> Bundle:
    """Build a bundle from its manifest, without a look at the files."""
    sam, cam = manifest.get("sam"), manifest.get("cam")
    return Bundle(
        path=folder,
        name=str(manifest["name"]),
        graphs={name: _graph(folder, name, g) for name, g in manifest["graphs"].items()},
        sam=None if sam is None else _sam_spec(sam),
        cam=None if cam is None else _cam_spec(cam),
        precision=str(manifest.get("precision", "fp32")),
        defaults=dict(manifest.get("defaults", {})),
        random_seed=_random_seed(sam or {}, cam or {}),
        manifest=manifest,
    )


def _random_seed(*parts: dict[str, Any]) -> int | None:
    """Return the first seed of random weights that a part states, None if all are trained."""
    seeds = [part.get("random_weights") for part in parts]
    return next((int(seed) for seed in seeds if seed is not None), None)


def _graph(folder: Path, name: str, entry: dict[str, Any]) -> Graph:
    """Build a graph from its entry; its first file is the .onnx file."""
    files = {_inside(folder, file["file"]): str(file["sha256"]) for file in entry["files"]}
    return Graph(
        name=name,
        path=_inside(folder, entry["files"][0]["file"]),
        files=files,
        inputs=tuple(_tensor(value) for value in entry["inputs"]),
        outputs=tuple(_tensor(value) for value in entry["outputs"]),
    )


def _tensor(entry: dict[str, Any]) -> dict[str, Any]:
    """Check that the entry of an input or output is complete, and return it."""
    return {"name": entry["name"], "dtype": entry["dtype"], "shape": list(entry["shape"])}


def _inside(folder: Path, file: str) -> Path:
    """Return the absolute path of a file of the bundle. Raises BundleError if it is outside."""
    # Bundles are passed on: `..`, absolute paths and links must not reach other files
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BundleError(f"{folder / MANIFEST} names {file!r}, which lies outside the bundle")
    return path


def _check_files(graph: Graph, check_hashes: bool) -> None:
    """Raise BundleError if a file of a graph is missing or, if asked for, was changed."""
    for path, expected in graph.files.items():
        if not path.is_file():
            raise BundleError(f"graph {graph.name!r}: file {path} is missing")
        if check_hashes and (actual := sha256_of(path)) != expected:
            raise BundleError(
                f"graph {graph.name!r}: {path} has sha256 {actual[:_SHOWN_DIGITS]}…, the manifest "
                f"says {expected[:_SHOWN_DIGITS]}…; the file is damaged or was changed, export the "
                "bundle again"
            )


def _sam_spec(entry: dict[str, Any]) -> SamSpec:
    channels, height, width = entry["embedding"]
    return SamSpec(
        input_side=_positive(entry["image_size"]),
        mean=_rgb(entry["mean"]),
        std=_rgb(entry["std"]),
        embedding=(int(channels), int(height), int(width)),
        mask_threshold=float(entry["mask_threshold"]),
    )


def _cam_spec(entry: dict[str, Any]) -> CamSpec:
    if not isinstance(entry["classes"], list):
        raise TypeError(f"classes are {entry['classes']!r}, expected a list of names")
    return CamSpec(
        classes=tuple(str(name) for name in entry["classes"]),
        mean=_rgb(entry["mean"]),
        std=_rgb(entry["std"]),
        stride=_positive(entry["stride"]),
        has_background=bool(entry["has_background"]),
    )


def _positive(value: Any) -> int:
    """Return a manifest value as an integer of at least 1. Raises ValueError."""
    if int(value) < 1:
        raise ValueError(f"expected at least 1, got {value}")
    return int(value)


def _rgb(values: list[float]) -> NDArray[np.float32]:
    """Return a manifest value as (3,) float32. Raises ValueError for another shape."""
    array = np.array(values, np.float32)
    if array.shape != (3,):
        raise ValueError(f"expected 3 channel values, got {values}")
    return array
