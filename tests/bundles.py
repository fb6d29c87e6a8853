"""A bundle of two tiny graphs, and ways to spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.bundle import Bundle, sha256_of
from samrefine_runtime.errors import BundleError
from tests.onnx_bytes import external, field, model

Change = Callable[[dict[str, Any]], object]
"""Changes a manifest in place."""

LONGEST_MESSAGE = 1500
"""Characters: an error is one line, whatever a stranger's texts are."""


def tensor(name: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape)}


MANIFEST: dict[str, Any] = {
    "format_version": 2,
    "name": "tiny",
    "graphs": {
        "encoder": {
            "files": [{"file": "encoder.onnx"}, {"file": "encoder.data"}],
            "inputs": [tensor("image", 1, 3, 1024, 1024)],
            "outputs": [tensor("image_embeddings", 1, 256, 64, 64)],
        },
        "cam": {
            "files": [{"file": "cam.onnx"}],
            "inputs": [tensor("image", "batch", 3, "height", "width")],
            "outputs": [tensor("cam", "batch", 2, "h", "w"), tensor("logits", "batch", 2)],
        },
    },
    "sam": {
        "image_size": 1024,
        "mean": [1, 2, 3],
        "std": [4, 5, 6],
        "embedding": [256, 64, 64],
        "mask_threshold": 0,
    },
    "cam": {
        "classes": ["cat", "dog"],
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "stride": 16,
        "has_background": False,
    },
}
"""Of the bundle that `write_bundle` writes, without the hashes."""

FILES = {
    "encoder.onnx": model(field(5, external("encoder.data", offset="4", length="12"))),
    "encoder.data": bytes(16),
    "cam.onnx": model(field(2, "cam")),
}
"""Its files: graphs that no engine would run, but that can be looked into."""


def write_bundle(folder: Path, **files: bytes) -> Path:
    """Write the bundle, some files by name without suffix with other content, and return it."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(files.get(name.removesuffix(".onnx"), content))
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    change(folder, rehash(folder))
    return folder


def rehash(folder: Path) -> Change:
    """State the hashes of the files as they are now."""

    def edit(manifest: dict[str, Any]) -> None:
        for graph in manifest["graphs"].values():
            for file in graph["files"]:
                file["sha256"] = sha256_of(folder / file["file"])

    return edit


def change(folder: Path, edit: Change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def put(*keys: Any, value: Any) -> Change:
    """Set manifest[keys[0]][keys[1]]... to a value."""

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


def drop(*keys: Any) -> Change:
    """Remove manifest[keys[0]][keys[1]]..."""

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


def refused(folder: Path, *, check_hashes: bool = True) -> str:
    """Load a bundle that is not sound, and return the one line that says why."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, check_hashes=check_hashes)
    message = str(caught.value)
    assert message.isprintable() and len(message) < LONGEST_MESSAGE
    assert caught.value.exit_code == 2
    return message


def put_text(folder: Path, *keys: Any, text: str) -> None:
    """Set a value of the manifest to JSON text that Python would not write."""
    change(folder, put(*keys, value="@@@"))
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"@@@"', text))
