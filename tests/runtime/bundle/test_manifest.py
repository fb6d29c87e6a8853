"""Manifests: what does not follow the schema is one clear line that names the value."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import samrefine_runtime
from samrefine_runtime.bundle import Bundle, schema
from samrefine_runtime.errors import BundleError, SettingsError
from tests.bundles import Change, change, drop, put, put_text, refused, write_bundle

HUGE = "1" + "0" * 400
LONG = "x" * 5000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


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


@pytest.mark.parametrize("version", [0, 3, 99, None, "2", [2], True, 1.5, LONG])
def test_unknown_format_version(folder: Path, version: Any) -> None:
    change(folder, put("format_version", value=version))
    message = refused(folder)
    assert "has format version " in message and message.endswith("this release reads 2")


def test_an_older_format_version_names_the_commands(folder: Path) -> None:
    change(folder, put("format_version", value=1))
    message = refused(folder)
    assert "has format version 1, this release reads 2; export it anew into another" in message
    assert message.endswith("with samrefine export sam and export cam")


def test_no_format_version(folder: Path) -> None:
    change(folder, drop("format_version"))
    assert "has format version None" in refused(folder)


def test_unknown_keys_are_for_later_versions(folder: Path) -> None:
    change(folder, put("colour", value="green"))
    change(folder, put("sam", "colours", value=[{"a": [1, None]}]))
    assert Bundle.load(folder).manifest["colour"] == "green"


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (drop("name"), "it is"),
        (put("name", value=5), "name is 5"),
        (put("name", value=""), "name is ''"),
        (put("name", value=LONG), "name is 'xxx"),
        (put("name", value="a\nError: b"), "name is 'a\\nError: b'"),
        (put("name", value="\x1b[2J"), "name is '\\x1b[2J'"),
        (put("name", value="\ud800"), "name is '\\ud800'"),
        (put("precision", value=16), "precision is 16"),
        (put("caution", value=LONG), "caution is 'xxx"),
        (put("exporter", value="mine"), "exporter is 'mine'"),
        (drop("graphs"), "it is"),
        (put("graphs", value=[]), "graphs is []"),
        (put("graphs", value="encoder"), "graphs is 'encoder'"),
        (put("graphs", value={f"graph{n}": {} for n in range(65)}), "graphs is {"),
        (put("graphs", "a b", value={}), "a name in graphs is 'a b'"),
        (put("graphs", "cam\n", value={}), "a name in graphs is 'cam\\n'"),
        (put("graphs", LONG, value={}), "a name in graphs is 'xxx"),
        (put("graphs", "cam", value=None), "graphs.cam is None"),
        (put("graphs", "cam", "files", value=[]), "graphs.cam.files is []"),
        (put("graphs", "cam", "files", value=5), "graphs.cam.files is 5"),
        (put("graphs", "cam", "files", value=[{}] * 1025), "graphs.cam.files is [{}"),
        (put("graphs", "cam", "files", 0, value="cam.onnx"), "graphs.cam.files[0] is 'cam.onnx'"),
        (put("graphs", "cam", "files", 0, "file", value=7), "graphs.cam.files[0].file is 7"),
        (put("graphs", "cam", "files", 0, "file", value="a\0b"), "files[0].file is 'a\\x00b'"),
        (put("graphs", "cam", "files", 0, "file", value=LONG), "files[0].file is 'xxx"),
        (drop("graphs", "cam", "files", 0, "sha256"), "graphs.cam.files[0] is {"),
        (put("graphs", "cam", "files", 0, "sha256", value="A" * 64), "files[0].sha256 is 'AAA"),
        (put("graphs", "cam", "files", 0, "sha256", value="a" * 64 + "\n"), "files[0].sha256 is"),
        (drop("graphs", "cam", "inputs"), "graphs.cam is {"),
        (put("graphs", "cam", "inputs", value="image"), "graphs.cam.inputs is 'image'"),
        (put("graphs", "cam", "outputs", value=[]), "graphs.cam.outputs is []"),
        (put("graphs", "cam", "outputs", 0, "shape", value=3), "graphs.cam.outputs[0].shape is 3"),
        (put("graphs", "cam", "outputs", 0, "shape", 0, value=0), "outputs[0].shape[0] is 0"),
        (put("graphs", "cam", "outputs", 0, "shape", 0, value=-1), "outputs[0].shape[0] is -1"),
        (put("graphs", "cam", "outputs", 0, "shape", 0, value=2**31), "shape[0] is 2147483648"),
        (put("graphs", "cam", "outputs", 0, "shape", 0, value=LONG), "shape[0] is 'xxx"),
        (put("graphs", "cam", "outputs", 0, "shape", value=[1] * 9), "outputs[0].shape is [1, 1"),
        (drop("graphs", "cam", "outputs", 0, "dtype"), "graphs.cam.outputs[0] is {"),
        (put("graphs", "cam", "outputs", 0, "dtype", value="Float 32"), "dtype is 'Float 32'"),
        (put("graphs", "cam", "outputs", 1, "name", value="cam"), "graphs.cam.outputs are ['cam'"),
        (put("sam", value=[1]), "sam is [1]"),
        (put("sam", value="vit_b"), "sam is 'vit_b'"),
        (put("sam", value={}), "sam is {}"),
        (drop("sam", "image_size"), "sam is {"),
        (put("sam", "image_size", value="large"), "sam.image_size is 'large'"),
        (put("sam", "image_size", value=True), "sam.image_size is True"),
        (put("sam", "image_size", value=0), "sam.image_size is 0"),
        (put("sam", "image_size", value=-1024), "sam.image_size is -1024"),
        (put("sam", "image_size", value=1024.5), "sam.image_size is 1024.5"),
        (put("sam", "image_size", value=60000), "sam.image_size is 60000, expected at most 4096"),
        (put("sam", "mean", value=[1, 2]), "sam.mean is [1, 2]"),
        (put("sam", "mean", value=["a", "b", "c"]), "sam.mean[0] is 'a'"),
        (put("sam", "mean", 1, value=1e6), "sam.mean[1] is 1000000.0"),
        (put("sam", "mean", 1, value=None), "sam.mean[1] is None"),
        (put("sam", "std", value=5), "sam.std is 5"),
        (put("sam", "std", 2, value=0), "sam.std[2] is 0, expected at least 0.0001"),
        (put("sam", "std", 2, value=-58.4), "sam.std[2] is -58.4"),
        (put("sam", "std", 2, value=1e-300), "sam.std[2] is 1e-300"),
        (put("sam", "embedding", value=[1, 2]), "sam.embedding is [1, 2]"),
        (put("sam", "embedding", 0, value=-256), "sam.embedding[0] is -256"),
        (put("sam", "embedding", 2, value=0), "sam.embedding[2] is 0"),
        (put("sam", "embedding", 1, value=10**9), "sam.embedding[1] is 1000000000"),
        (put("sam", "embedding", 1, value="64"), "sam.embedding[1] is '64'"),
        (put("sam", "mask_threshold", value=None), "sam.mask_threshold is None"),
        (put("sam", "mask_threshold", value=1e5), "sam.mask_threshold is 100000.0"),
        (put("sam", "random_weights", value="yes"), "sam.random_weights is 'yes'"),
        (put("sam", "random_weights", value=1.5), "sam.random_weights is 1.5"),
        (put("sam", "arch", value="a\rb"), "sam.arch is 'a\\rb'"),
        (put("cam", value=[]), "cam is []"),
        (put("cam", "classes", value=3), "cam.classes is 3"),
        (put("cam", "classes", value="cat"), "cam.classes is 'cat'"),
        (put("cam", "classes", value=[]), "cam.classes is []"),
        (put("cam", "classes", value=["cat", "cat"]), "cam.classes is ['cat', 'cat']"),
        (put("cam", "classes", value=["cat", ""]), "cam.classes[1] is ''"),
        (put("cam", "classes", value=["cat", " \t"]), "cam.classes[1] is ' \\t'"),
        (put("cam", "classes", value=["cat", "a\nb"]), "cam.classes[1] is 'a\\nb'"),
        (put("cam", "classes", value=["cat", "dog\n"]), "cam.classes[1] is 'dog\\n'"),
        (put("cam", "classes", value=["cat", LONG]), "cam.classes[1] is 'xxx"),
        (put("cam", "classes", value=["cat", 5]), "cam.classes[1] is 5"),
        (put("cam", "classes", value=["cat", {}]), "cam.classes[1] is {}"),
        (put("cam", "classes", value=[f"class {n}" for n in range(255)]), "cam.classes is ['cl"),
        (put("cam", "stride", value="wide"), "cam.stride is 'wide'"),
        (put("cam", "stride", value=0), "cam.stride is 0"),
        (put("cam", "stride", value=-16), "cam.stride is -16"),
        (put("cam", "stride", value=10**9), "cam.stride is 1000000000, expected at most 256"),
        (put("cam", "std", 0, value=0), "cam.std[0] is 0"),
        (drop("cam", "has_background"), "cam is {"),
        (put("cam", "has_background", value=1), "cam.has_background is 1"),
        (put("cam", "defaults", value=[1]), "cam.defaults is [1]"),
        (put("defaults", value=5), "defaults is 5"),
        (put("defaults", value="none"), "defaults is 'none'"),
        (put("defaults", value={f"n{n}": 1 for n in range(257)}), "defaults is {"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_manifest_with_wrong_values(folder: Path, edit: Change, where: str) -> None:
    change(folder, edit)
    _, found, reason = refused(folder).partition("manifest.json is not a valid manifest: ")
    assert found and where in reason and ", expected " in reason


@pytest.mark.parametrize(
    "keys",
    [
        ("sam", "image_size"),
        ("sam", "mean", 0),
        ("sam", "std", 0),
        ("sam", "embedding", 0),
        ("sam", "mask_threshold"),
        ("sam", "random_weights"),
        ("cam", "stride"),
        ("cam", "std", 2),
        ("graphs", "cam", "outputs", 0, "shape", 0),
        ("defaults",),
        ("later",),
    ],
    ids=lambda keys: ".".join(map(str, keys)),
)
@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", HUGE, "-" + HUGE]
)
def test_numbers_that_are_none(folder: Path, keys: tuple[Any, ...], text: str) -> None:
    put_text(folder, *keys, text=text)
    message = refused(folder)
    assert "manifest.json is not readable JSON" in message


def test_numbers_written_as_reals(folder: Path) -> None:
    """Programs that have reals only write 1024.0, which JSON Schema calls an integer."""
    put_text(folder, "sam", "image_size", text="1.024e3")
    put_text(folder, "sam", "embedding", 1, text="64.0")
    put_text(folder, "format_version", text="2.0")
    bundle = Bundle.load(folder)
    assert repr(bundle.require_sam().input_side) == "1024"
    assert bundle.require_sam().low_res_shape == (256, 256)


def test_a_name_given_twice(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"name":', '"name": "other", "name":', 1))
    assert "a name twice in ['format_version', 'name', 'name'" in refused(folder)


@pytest.mark.parametrize("nested", ["[" * 40 + "]" * 40, '{"a":' * 40 + "1" + "}" * 40])
def test_what_is_nested_too_deep(folder: Path, nested: str) -> None:
    put_text(folder, "later", text=nested)
    assert "nested deeper than 32 levels" in refused(folder)


def test_a_manifest_of_several_gigabytes(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(3 << 30)  # takes no space
    message = refused(folder)
    assert "manifest.json is larger than 4.2 MB" in message
    assert "SAMREFINE_BUNDLE_LIMITS" in message


def test_a_large_manifest_where_limits_are_raised(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder, put("later", value=" " * (5 << 20)))
    assert "is larger than" in refused(folder)
    monkeypatch.setenv("SAMREFINE_BUNDLE_LIMITS", "2")
    assert Bundle.load(folder).name == "tiny"


@pytest.mark.parametrize(
    "factor", ["", "0", "-1", "1.5", "many", "1001", "9" * 5000, "00002", "٣", "1\n"]
)
def test_limits_raised_by_no_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, factor: str
) -> None:
    monkeypatch.setenv("SAMREFINE_BUNDLE_LIMITS", factor)
    with pytest.raises(
        SettingsError, match=r"SAMREFINE_BUNDLE_LIMITS is .* from 1 to 1000$"
    ) as caught:
        Bundle.load(folder)
    assert str(caught.value).isprintable()


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    assert "is not a bundle: it has no manifest.json" in refused(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    assert "does not exist or is not a folder" in refused(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    assert "does not exist or is not a folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800"])
def test_folders_that_no_system_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path / name)
    assert str(caught.value).isprintable()


def test_a_folder_and_a_manifest_that_link_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "does not exist or is not a folder" in refused(tmp_path / "loop")
    (tmp_path / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "has no manifest.json" in refused(tmp_path)


def test_a_manifest_that_is_no_file(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "manifest.json")
    assert "has no manifest.json" in refused(tmp_path)


def test_a_manifest_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, *arguments: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    assert "cannot be read ([Errno 13] Permission denied" in refused(folder)


def test_every_keyword_of_the_schema_is_understood() -> None:
    """One that is not would be a promise that nothing holds."""
    path = Path(samrefine_runtime.__file__).parent / "manifest.schema.json"
    notes = {"$schema", "$comment", "$defs", "$ref", "title"}
    found = set()
    pending = [json.loads(path.read_text())]
    while pending:
        each = pending.pop()
        found |= each.keys()
        inner = [*each.get("properties", {}).values(), *each.get("$defs", {}).values()]
        names = ("items", "additionalProperties", "propertyNames")
        pending += inner + [each[name] for name in names if name in each]
    assert found - notes <= schema.KEYWORDS
