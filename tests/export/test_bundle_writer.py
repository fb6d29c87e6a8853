"""Bundles are written whole or not at all, and as the schema says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

import samrefine_runtime
from samrefine_export.bundle_writer import BundleWriter
from samrefine_runtime.bundle import MANIFEST, Bundle
from samrefine_runtime.errors import BundleError

SCHEMA = json.loads(
    (Path(samrefine_runtime.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8")
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_manifest_follows_the_schema(small_bundle: Path) -> None:
    jsonschema.validate(json.loads((small_bundle / MANIFEST).read_text()), SCHEMA)


def test_schema_rejects_a_graph_without_hash(small_bundle: Path) -> None:
    manifest = json.loads((small_bundle / MANIFEST).read_text())
    del manifest["graphs"]["encoder"]["files"][0]["sha256"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_decoders_share_their_weights(small_bundle: Path) -> None:
    graphs = Bundle.load(small_bundle).graphs
    names = ("decoder", "everything_image", "everything_tokens", "everything_masks")
    shared = set.intersection(*(set(graphs[name].files) for name in names))
    assert [path.name for path in shared] == ["decoder.data"]


def test_an_exception_leaves_the_old_bundle(small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with BundleWriter(target, "first") as bundle:
        bundle.set("defaults", {"points_per_side": 4})
    before = files_of(target)
    with pytest.raises(KeyError), BundleWriter(target, "second"):
        raise KeyError
    assert files_of(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_further_sections_keep_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with BundleWriter(target, "mine") as bundle:
        bundle.set("defaults", {"points_per_side": 4})
    with BundleWriter(target) as bundle:
        bundle.set("precision", "int8")
    loaded = Bundle.load(target)
    assert (loaded.name, loaded.precision, loaded.defaults) == (
        "mine",
        "int8",
        {"points_per_side": 4},
    )


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(BundleError, match=MANIFEST):
        BundleWriter(tmp_path)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_files_of_others_in_a_bundle_stay(small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    shutil.copytree(small_bundle, target)
    (target / "notes.txt").write_text("mine")
    with BundleWriter(target) as bundle:
        bundle.set("precision", "int8")
    assert (target / "notes.txt").read_text() == "mine"
    assert Bundle.load(target).precision == "int8"
