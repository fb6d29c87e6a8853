"""Writes bundles: new ones, or further graphs into one that exists, all or nothing."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import onnx

import samrefine_export
from samrefine_export.lint import external_files, refusals
from samrefine_runtime.atomic import atomic_folder
from samrefine_runtime.bundle import FORMAT_VERSION, HALVES, MANIFEST, Bundle, sha256_of
from samrefine_runtime.errors import BundleError


class BundleWriter:
    """Collects graphs and settings in a folder beside the bundle and replaces the bundle with it.

    A context manager: a clean exit puts the bundle in place, an exception leaves whatever was
    there before untouched.
    """

    def __init__(self, folder: str | Path, name: str | None = None):
        """Start from the bundle at `folder` if there is one, else from nothing.

        Raises:
            BundleError: `folder` exists and is not an empty folder or a sound bundle.
        """
        self.folder = Path(folder)
        self.manifest = _starting_manifest(self.folder, name)
        # What the export replaces: whatever else lies in the folder is the user's
        self._old_files = _files_of(self.manifest)
        self._exit = ExitStack()

    def __enter__(self) -> BundleWriter:
        folder = atomic_folder(self.folder, replaces=self._old_files)
        self.staging = self._exit.enter_context(folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._exit.__exit__(kind, error, trace)
            return
        with self._exit:
            self._finish()

    def set(self, section: str, value: Any) -> None:
        """Set a top-level section of the manifest ("sam", "cam", "defaults", ...)."""
        self.manifest[section] = value

    def add_graph(self, name: str, onnx_path: Path) -> None:
        """Move an .onnx file and its external data into the bundle as graph `name`.

        Files keep their names. External data that came with an earlier graph is shared. The graph's
        variants in other precisions go: they are those of the weights before, and are added anew.
        """
        for variant in [f"{name}.{half}" for half in HALVES]:
            self.manifest["graphs"].pop(variant, None)
        # Move the files, unless an earlier graph already brought the external data
        model = onnx.load(onnx_path, load_external_data=False)
        files = [onnx_path.name, *external_files(model)]
        for file in files:
            if (onnx_path.parent / file).is_file():
                shutil.move(onnx_path.parent / file, self.staging / file)
        self.manifest["graphs"][name] = {
            "files": [{"file": f, "sha256": sha256_of(self.staging / f)} for f in files],
            "inputs": [_describe(value) for value in model.graph.input],
            "outputs": [_describe(value) for value in model.graph.output],
            "engines": refusals(self.staging / onnx_path.name),
        }

    def _finish(self) -> None:
        """Copy the graphs that stay, write the manifest, and check the result by loading it."""
        for graph in self.manifest["graphs"].values():
            for entry in graph["files"]:
                target = self.staging / entry["file"]
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.folder / entry["file"], target)
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n"
        (self.staging / MANIFEST).write_text(text, encoding="utf-8")
        Bundle.load(self.staging)


def _starting_manifest(folder: Path, name: str | None) -> dict[str, Any]:
    """Return a copy of the manifest in `folder`, or that of an empty bundle."""
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} exists and is not a folder")
    if folder.exists() and any(folder.iterdir()):
        manifest = json.loads(json.dumps(Bundle.load(folder).manifest))
        return {**manifest, "name": name or manifest["name"]}
    return {
        "format_version": FORMAT_VERSION,
        "name": name or folder.name,
        "exporter": {"name": "samrefine_export", "version": samrefine_export.__version__},
        "precision": "fp32",
        "graphs": {},
        "defaults": {},
    }


def _files_of(manifest: dict[str, Any]) -> list[str]:
    """Return the files of a bundle, its manifest first, relative to its folder."""
    graphs = manifest["graphs"].values()
    return [MANIFEST, *(entry["file"] for graph in graphs for entry in graph["files"])]


def _describe(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """Describe an input or output as the manifest does; names stand for dynamic axes."""
    tensor = value.type.tensor_type
    return {
        "name": value.name,
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        # Axes that the graph does not say anything of have neither
        "shape": [d.dim_param or d.dim_value or "?" for d in tensor.shape.dim],
    }
