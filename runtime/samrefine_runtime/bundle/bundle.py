"""The bundle: a folder with `manifest.json` and the ONNX graphs it names (specified in README)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from samrefine_runtime.bundle.files import check_files, inside
from samrefine_runtime.bundle.limits import Limits
from samrefine_runtime.bundle.manifest import read_manifest
from samrefine_runtime.bundle.parts import HALVES, CamSpec, Graph, SamSpec, TensorSpec
from samrefine_runtime.bundle.roles import check_roles
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import BundleError, printable
from samrefine_runtime.settings import Domain

EMBEDDED: Mapping[str, Path] = {"demo": Path(__file__).parent.parent / "demo_bundle"}
"""Bundles that this package carries, by the names that stand for their folders."""


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
                outside the folder, a file whose hash differs, or a graph that is not what the
                manifest says or would make an engine open other files.
            SettingsError: `check_hashes` is neither True nor False.
        """
        Domain(bool).check("check_hashes", check_hashes)
        folder = as_path(path, "path", BundleError)
        folder = EMBEDDED[path] if isinstance(path, str) and path in EMBEDDED else folder
        limits = Limits.current()
        # The manifest first, then what it says of the graphs, and the files last: hashing is slow
        manifest = read_manifest(folder, limits)
        sam, cam = manifest.get("sam") or {}, manifest.get("cam") or {}
        bundle = cls(
            path=folder,
            name=manifest["name"],
            graphs=_with_variants(
                {name: _graph(folder, name, g) for name, g in manifest["graphs"].items()}
            ),
            sam=_sam_spec(sam) if sam else None,
            cam=_cam_spec(cam) if cam else None,
            precision=manifest.get("precision", "fp32"),
            defaults=dict(manifest.get("defaults", {})),
            random_seed=_random_seed(sam, cam),
            manifest=manifest,
        )
        for graphs in (bundle.graphs, *map(bundle.graphs_in, bundle.variants)):
            check_roles(graphs, bundle.sam, bundle.cam)
        check_files(bundle.all_graphs(), limits, check_hashes=check_hashes)
        return bundle

    @property
    def variants(self) -> tuple[str, ...]:
        """Return the precisions that graphs are written in beside that of the bundle."""
        return next((tuple(graph.variants) for graph in self.graphs.values()), ())

    def graphs_in(self, variant: str) -> dict[str, Graph]:
        """Return all graphs as they are run in one of `variants`, by name.

        Raises BundleError that lists them where there is no such variant.
        """
        if not isinstance(variant, str) or variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise BundleError(
                f"bundle {self.path} has no variant {described(variant)} (it has: {known})"
            )
        return {name: graph.variants[variant] for name, graph in self.graphs.items()}

    def all_graphs(self) -> list[Graph]:
        """Return the graphs in all precisions, each once, in the manifest's order of names."""
        several = ([graph, *graph.variants.values()] for graph in self.graphs.values())
        return list({graph.name: graph for each in several for graph in each}.values())

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


def _with_variants(named: Mapping[str, Graph]) -> dict[str, Graph]:
    """Give graphs their variants, which the manifest calls `<name>.<precision>`."""
    written: dict[str, dict[str, Graph]] = {name: {} for name in named}
    for name in named:
        base, _, precision = name.rpartition(".")
        if base in named and precision in HALVES:
            written[base][precision] = named[name]
            del written[name]
    # Where some graphs are written in a precision, those that are not serve as they are
    known = [p for p in HALVES if any(p in variants for variants in written.values())]
    return {
        name: replace(named[name], variants={p: variants.get(p, named[name]) for p in known})
        for name, variants in written.items()
    }


def _graph(folder: Path, name: str, entry: Mapping[str, Any]) -> Graph:
    """Build a graph from its entry; its first file is the .onnx file."""
    files: dict[Path, str] = {}
    for file in entry["files"]:
        path = inside(folder, file["file"])
        if path in files:
            raise BundleError(f"graph {name!r}: {file['file']!r} is a file that is listed before")
        files[path] = file["sha256"]
    path = next(iter(files))
    # By the suffix ONNX Runtime chooses between ONNX and a format of its own
    if path.suffix != ".onnx":
        raise BundleError(f"graph {name!r}: {printable(path)} is its first file, expected .onnx")
    return Graph(name, path, files, _tensors(entry["inputs"]), _tensors(entry["outputs"]))


def _tensors(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            entry["name"],
            entry["dtype"],
            tuple(side if isinstance(side, str) else int(side) for side in entry["shape"]),
        )
        for entry in entries
    )


def _sam_spec(entry: Mapping[str, Any]) -> SamSpec:
    channels, height, width = map(int, entry["embedding"])
    return SamSpec(
        input_side=int(entry["image_size"]),
        mean=np.array(entry["mean"], np.float32),
        std=np.array(entry["std"], np.float32),
        embedding=(channels, height, width),
        mask_threshold=float(entry["mask_threshold"]),
    )


def _cam_spec(entry: Mapping[str, Any]) -> CamSpec:
    return CamSpec(
        classes=tuple(entry["classes"]),
        mean=np.array(entry["mean"], np.float32),
        std=np.array(entry["std"], np.float32),
        stride=int(entry["stride"]),
        has_background=entry["has_background"],
    )


def _random_seed(*parts: Mapping[str, Any]) -> int | None:
    """Return the first seed of random weights that a part states, None if all are trained."""
    seeds = [part["random_weights"] for part in parts if "random_weights" in part]
    return int(seeds[0]) if seeds else None
