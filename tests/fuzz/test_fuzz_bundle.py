"""Bundles of strangers: whatever their bytes are, they load or are refused in one line.

`python -m pytest tests/fuzz --hypothesis-profile=long` looks for longer.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samrefine_runtime
from samrefine_runtime.bundle import Bundle, schema
from samrefine_runtime.bundle.onnx_files import external_data
from samrefine_runtime.bundle.wire import WireError
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import BundleError, SettingsError
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.settings import GeneratorSettings
from tests.bundles import LONGEST_MESSAGE, write_bundle
from tests.onnx_bytes import entry, everywhere, external, field, model, node, tensor, varint
from tests.samples import DATA

SCHEMA = json.loads((Path(samrefine_runtime.__file__).parent / "manifest.schema.json").read_text())

MANY = 100_000

TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=8),
    st.sampled_from(
        ["../x", "/etc/hostname", "loop", "outside", "pipe", "cam.onnx", "a\n", "\ud800"]
    ),
    st.integers(150, 6000).map(lambda length: "x" * length),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-5, 5000),
    st.floats(),
    st.sampled_from([10**400, 2**31, 2**63, 2**64, -(2**63), 1e308, 5e-324]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
"""JSON values, and such as only Python writes: NaN, infinity, lone surrogates."""

NAMES = st.sampled_from(
    ["scales", "points_per_side", "crop_n_layers", "max_area_ratio", "flip", "max_side", "prompts"]
)
"""Settings that a manifest may have defaults of."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle beside which things lie that it may not reach."""
    import os

    path = write_bundle(tmp_path_factory.mktemp("fuzz") / "bundle")
    (path.parent / "x").write_bytes(bytes(16))
    (path / "outside").symlink_to(path.parent / "x")
    (path / "loop").symlink_to("loop")
    os.mkfifo(path / "pipe")
    (path / "original.json").write_bytes((path / "manifest.json").read_bytes())
    return path


def original(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "original.json").read_text())
    manifest["defaults"] = {"points_per_side": 4}
    manifest["cam"]["defaults"] = {"scales": [1, 2]}
    return manifest


def containers(value: Any) -> Iterator[Any]:
    """Yield every object and list in a value."""
    if isinstance(value, (dict, list)):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from containers(each)


@st.composite
def spoiled(draw: st.DrawFn, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of which one to three entries are changed, dropped or added."""
    manifest = copy.deepcopy(manifest)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([each for each in containers(manifest) if each]))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        action = draw(st.sampled_from(["change", "change", "change", "drop", "add"]))
        if action == "drop":
            del place[key]
        elif action == "change":
            place[key] = draw(VALUES)
        elif isinstance(place, dict):
            place[draw(NAMES | TEXTS)] = draw(VALUES)
        else:
            place.append(draw(st.just(place[key]) | VALUES))
    return manifest


def load_or_refuse(folder: Path) -> Bundle | None:
    try:
        bundle = Bundle.load(folder, check_hashes=False)
    except BundleError as error:
        assert_one_line(error)
        return None
    for graph in bundle.graphs.values():
        assert all(path.is_relative_to(folder.resolve()) for path in graph.files)
        assert all(path.is_file() and not path.is_symlink() for path in graph.files)
    return bundle


def assert_one_line(error: Exception) -> None:
    assert str(error).isprintable() and len(str(error)) < LONGEST_MESSAGE, repr(str(error))


@settings(deadline=None)
@given(st.data())
def test_spoiled_manifests(folder: Path, data: st.DataObject) -> None:
    manifest = data.draw(spoiled(original(folder)))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = load_or_refuse(folder)
    if bundle is None:
        return
    for kind in (GeneratorSettings, CamSettings, RefineSettings):
        try:
            kind.of(bundle)
        except SettingsError as error:
            assert_one_line(error)


@settings(deadline=None)
@given(st.data())
def test_manifests_of_any_bytes(folder: Path, data: st.DataObject) -> None:
    sound = json.dumps(original(folder)).encode()
    (folder / "manifest.json").write_bytes(data.draw(spoiled_bytes(sound) | st.binary()))
    load_or_refuse(folder)


@settings(deadline=None)
@given(st.data())
def test_the_schema_means_what_others_read_in_it(folder: Path, data: st.DataObject) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    # What no JSON can be is refused before
    manifest = json.loads(
        json.dumps(data.draw(spoiled(original(folder)))), parse_constant=lambda name: None
    )
    is_valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(manifest)
    try:
        schema.check(manifest, SCHEMA)
    except BundleError as error:
        assert_one_line(error)
        # Python's $ also matches before a line end, which jsonschema inherits
        assert not is_valid or '\\n"' in json.dumps(manifest)
    else:
        assert is_valid


@st.composite
def spoiled_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are changed, dropped, put in, or repeated."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        stop = draw(st.integers(start, min(len(content), start + 40)))
        middle = draw(st.one_of(st.binary(max_size=12), st.just(content[start:stop] * 2)))
        content = content[:start] + middle + content[stop:]
    return content


LOCATIONS = st.sampled_from(["a.data", "../x", "/etc/hostname", "b"]) | st.text(max_size=5)
NUMBERS_OF_FIELDS = st.sampled_from([1, 2, 4, 5, 6, 7, 8, 10, 11, 13, 14, 15, 20, 22, 23, 25, 99])


def padded(number: int, zeros: int) -> bytes:
    """Encode a number with bytes that add nothing, as no writer does."""
    content = varint(number)
    return (
        content
        if not zeros
        else content[:-1] + bytes([content[-1] | 0x80]) + b"\x80" * (zeros - 1) + b"\x00"
    )


@st.composite
def any_field(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """One field, mostly a message, sometimes in an odd form."""
    number = draw(NUMBERS_OF_FIELDS)
    zeros = draw(st.sampled_from([0] * 8 + [1, 2, 4, 5]))
    kind = draw(st.sampled_from(["message"] * 6 + ["number", "eight", "four", "group"]))
    if kind == "message":
        content = draw(contents)
        return padded(number << 3 | 2, zeros) + padded(len(content), zeros) + content
    if kind == "number":
        return padded(number << 3, zeros) + varint(draw(st.sampled_from([0, 1, 2, 2**32 + 1])))
    wire_type, size = {"eight": (1, 8), "four": (5, 4), "group": (3, 0)}[kind]
    return padded(number << 3 | wire_type, zeros) + bytes(size)


PARTS = st.one_of(
    LOCATIONS.map(external),
    LOCATIONS.map(lambda location: tensor(entry("location", location))),
    LOCATIONS.map(lambda location: entry("location", location)),
    LOCATIONS.map(lambda location: field(1, "location") + field(2, location)),
    st.sampled_from(["Relu", "EPContext", "Mine"]).map(node),
    st.sampled_from([b"location", b"a.data", b"\xff", b""]),
)
MESSAGES = st.recursive(
    PARTS, lambda inner: st.lists(any_field(inner), max_size=4).map(b"".join), max_leaves=12
)
MODELS = st.one_of(
    st.lists(any_field(MESSAGES), max_size=4).map(b"".join),
    MESSAGES.map(model),
    st.builds(
        lambda hidden, place: everywhere(hidden)[place],
        MESSAGES,
        st.sampled_from(list(everywhere(b""))),
    ),
    st.one_of(*map(spoiled_bytes, everywhere(external("a.data", offset="4")).values())),
    spoiled_bytes((DATA / "colours.onnx").read_bytes()),
    st.binary(),
)


@settings(deadline=None)
@given(MODELS)
def test_models_of_any_bytes(content: bytes) -> None:
    try:
        found = external_data(content, MANY)
    except WireError as error:
        assert "\n" not in str(error)
        return
    pytest.importorskip("onnx", reason="onnx, the other reader, is not installed")
    from google.protobuf.message import DecodeError

    from tests.onnx_walk import locations, operators

    try:
        expected, used = locations(content), operators(content)
    except DecodeError:
        return
    # What the other reader would open, this one has seen
    assert expected <= {each.location for each in found}
    assert "EPContext" not in used


@settings(deadline=None)
@given(MODELS)
def test_bundles_with_graphs_of_any_bytes(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes((folder / "original.json").read_bytes())
    (folder / "encoder.onnx").write_bytes(content)
    load_or_refuse(folder)
