"""Bundles: what is sound loads, and whatever is not is one clear line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime.bundle import Bundle, sha256_of
from samrefine_runtime.errors import BundleError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of two graphs, of which one has external data; the files are no real graphs."""
    path = tmp_path / "bundle"
    path.mkdir()
    tensor = {"name": "image", "dtype": "float32", "shape": [1, 3, "height", "width"]}
    graphs: dict[str, Any] = {}
    for name, files in {"encoder": ["encoder.onnx", "encoder.data"], "cam": ["cam.onnx"]}.items():
        for file in files:
            (path / file).write_bytes(file.encode())
        entries = [{"file": file, "sha256": sha256_of(path / file)} for file in files]
        graphs[name] = {"files": entries, "inputs": [tensor], "outputs": [tensor]}
    manifest = {
        "format_version": 1,
        "name": "tiny",
        "graphs": graphs,
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
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def change(folder: Path, edit: Change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def put(*keys: Any, value: Any) -> Change:
    """Sets manifest[keys[0]][keys[1]]... to a value."""

    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


def drop(*keys: Any) -> Change:
    def edit(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


def refused(folder: Path, *, check_hashes: bool = True) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, check_hashes=check_hashes)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_a_sound_bundle(folder: Path) -> None:
    bundle = Bundle.load(str(folder))
    assert bundle.name == "tiny"
    assert bundle.precision == "fp32"
    assert bundle.random_seed is None
    assert list(bundle.graphs) == ["encoder", "cam"]
    encoder = bundle.graph("encoder")
    assert encoder.path == (folder / "encoder.onnx").resolve()
    assert [path.name for path in encoder.files] == ["encoder.onnx", "encoder.data"]
    assert encoder.inputs[0]["shape"] == [1, 3, "height", "width"]
    sam = bundle.require_sam()
    assert sam.input_side == 1024
    assert sam.low_res_shape == (256, 256)
    assert sam.embedding == (256, 64, 64)
    assert np.array_equal(sam.mean, np.array([1, 2, 3], np.float32))
    assert bundle.require_cam().classes == ("cat", "dog")


def test_the_exported_bundle(small_bundle: Path) -> None:
    bundle = Bundle.load(small_bundle)
    everything = {"everything", "everything_image", "everything_prompts"}
    assert set(bundle.graphs) == {"encoder", "decoder", "cam"} | everything
    assert bundle.random_seed == 0
    assert bundle.require_cam().classes == ("red", "green", "blue")
    assert bundle.require_sam().input_side == 256
    assert [value["name"] for value in bundle.graph("decoder").inputs] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    ]


def test_a_moved_bundle_and_a_linked_one(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert Bundle.load(tmp_path / "elsewhere").name == Bundle.load(tmp_path / "link").name


def test_unknown_keys_are_for_later_versions(folder: Path) -> None:
    change(folder, put("colour", value="green"))
    assert Bundle.load(folder).manifest["colour"] == "green"


def test_changed_file(folder: Path) -> None:
    (folder / "encoder.data").write_bytes(b"changed")
    message = refused(folder)
    assert "encoder.data has sha256" in message
    assert "export the bundle again" in message
    assert Bundle.load(folder, check_hashes=False)


@pytest.mark.parametrize("check_hashes", [True, False])
def test_missing_file(folder: Path, check_hashes: bool) -> None:
    (folder / "cam.onnx").unlink()
    message = refused(folder, check_hashes=check_hashes)
    assert "graph 'cam': file" in message
    assert "cam.onnx is missing" in message


@pytest.mark.parametrize("version", [0, 2, 99, None, "1", [1]])
def test_unknown_format_version(folder: Path, version: Any) -> None:
    change(folder, put("format_version", value=version))
    assert f"has format version {version!r}, this release reads 1" in refused(folder)


def test_no_format_version(folder: Path) -> None:
    change(folder, drop("format_version"))
    assert "has format version None" in refused(folder)


@pytest.mark.parametrize("file", ["../outside.onnx", "a/../../outside.onnx", "/etc/hostname"])
def test_path_that_leaves_the_bundle(folder: Path, file: str) -> None:
    (folder.parent / "outside.onnx").write_bytes(b"secret")
    change(folder, put("graphs", "cam", "files", 0, "file", value=file))
    assert f"names {file!r}, which lies outside the bundle" in refused(folder, check_hashes=False)


def test_link_that_leaves_the_bundle(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    shutil.move(folder / "cam.onnx", outside)
    (folder / "cam.onnx").symlink_to(outside)
    assert "lies outside the bundle" in refused(folder)


def test_external_data_that_leaves_the_bundle(folder: Path) -> None:
    change(folder, put("graphs", "encoder", "files", 1, "file", value="../x.data"))
    assert "names '../x.data', which lies outside" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": }'])
def test_manifest_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert "manifest.json is not readable JSON" in refused(folder)


@pytest.mark.parametrize(("content", "kind"), [("[]", "list"), ('"a"', "str"), ("null", "None")])
def test_manifest_that_is_no_object(folder: Path, content: str, kind: str) -> None:
    (folder / "manifest.json").write_text(content)
    message = refused(folder)
    assert f"holds a {kind}" in message
    assert "expected an object" in message


@pytest.mark.parametrize(
    "edit",
    [
        drop("name"),
        drop("graphs"),
        put("graphs", value=[]),
        put("graphs", value="encoder"),
        put("graphs", "cam", value=None),
        put("graphs", "cam", "files", value=[]),
        put("graphs", "cam", "files", value=5),
        put("graphs", "cam", "files", 0, value="cam.onnx"),
        put("graphs", "cam", "files", 0, "file", value=7),
        put("graphs", "cam", "files", 0, "file", value="a\0b"),
        drop("graphs", "cam", "files", 0, "sha256"),
        drop("graphs", "cam", "inputs"),
        put("graphs", "cam", "inputs", value="image"),
        put("graphs", "cam", "outputs", 0, "shape", value=3),
        drop("graphs", "cam", "outputs", 0, "dtype"),
        put("sam", value=[1]),
        put("sam", value="vit_b"),
        drop("sam", "image_size"),
        put("sam", "image_size", value="large"),
        put("sam", "image_size", value=0),
        put("sam", "mean", value=[1, 2]),
        put("sam", "mean", value=["a", "b", "c"]),
        put("sam", "std", value=5),
        put("sam", "embedding", value=[1, 2]),
        put("sam", "mask_threshold", value=None),
        put("cam", value=[]),
        put("cam", "classes", value=3),
        put("cam", "classes", value="cat"),
        put("cam", "stride", value="wide"),
        put("cam", "stride", value=0),
        drop("cam", "has_background"),
        put("defaults", value=5),
        put("defaults", value="none"),
    ],
)
def test_manifest_with_wrong_values(folder: Path, edit: Change) -> None:
    change(folder, edit)
    assert "manifest.json is not a valid manifest" in refused(folder)


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    assert "is not a bundle: it has no manifest.json" in refused(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    assert "does not exist or is not a folder" in refused(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    assert "does not exist or is not a folder" in refused(tmp_path / "file")


def test_parts_a_bundle_lacks(folder: Path) -> None:
    change(folder, drop("sam"))
    change(folder, put("cam", value=None))
    bundle = Bundle.load(folder)
    with pytest.raises(BundleError, match="holds no SAM; make one with export sam"):
        bundle.require_sam()
    with pytest.raises(BundleError, match="holds no CAM classifier; add it with export cam"):
        bundle.require_cam()
    with pytest.raises(BundleError, match=r"no 'everything' graph \(it has: encoder, cam\)"):
        bundle.graph("everything")


@pytest.mark.parametrize("part", ["sam", "cam"])
def test_random_weights_are_known(folder: Path, part: str) -> None:
    change(folder, put(part, "random_weights", value=7))
    assert Bundle.load(folder).random_seed == 7


def test_random_weights_of_another_type(folder: Path) -> None:
    change(folder, put("sam", "random_weights", value="yes"))
    assert "is not a valid manifest" in refused(folder)
