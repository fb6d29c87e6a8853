"""Files of bundles: none lies outside, none is changed, and no graph reads any but its own."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.bundle import Bundle, Limits
from tests.bundles import change, put, refused, rehash, write_bundle
from tests.onnx_bytes import entry, everywhere, external, field, key, model, node, tensor, varint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def rewritten(folder: Path, content: bytes) -> Path:
    """Give the encoder another graph, with its hash."""
    (folder / "encoder.onnx").write_bytes(content)
    change(folder, rehash(folder))
    return folder


def test_changed_file(folder: Path) -> None:
    (folder / "encoder.data").write_bytes(b"changed, but long enough")
    message = refused(folder)
    assert "encoder.data has sha256" in message
    assert "export the bundle again" in message
    assert Bundle.load(folder, check_hashes=False)


@pytest.mark.parametrize("check_hashes", [True, False])
@pytest.mark.parametrize("file", ["cam.onnx", "encoder.data"])
def test_missing_file(folder: Path, file: str, check_hashes: bool) -> None:
    (folder / file).unlink()
    message = refused(folder, check_hashes=check_hashes)
    assert f"graph '{file.partition('.')[0]}': file" in message
    assert f"{file} is missing" in message


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


@pytest.mark.parametrize("check_hashes", [True, False])
def test_links_in_a_circle(folder: Path, check_hashes: bool) -> None:
    for here, there in (("cam.onnx", "other"), ("other", "cam.onnx")):
        (folder / here).unlink(missing_ok=True)
        (folder / here).symlink_to(there)
    assert "is missing" in refused(folder, check_hashes=check_hashes)


@pytest.mark.parametrize("name", ["a" * 190 + "/" + "b" * 9, "c" * 200])
def test_names_that_no_file_has(folder: Path, name: str) -> None:
    change(folder, put("graphs", "cam", "files", 0, "file", value=f"{name[:195]}.onnx"))
    assert "is missing" in refused(folder)


def test_a_folder_and_a_pipe_are_no_files(folder: Path) -> None:
    """Reading a pipe would wait for ever."""
    (folder / "cam.onnx").unlink()
    os.mkfifo(folder / "cam.onnx")
    assert "cam.onnx is missing" in refused(folder)
    (folder / "cam.onnx").unlink()
    (folder / "cam.onnx").mkdir()
    assert "cam.onnx is missing" in refused(folder)


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def forbidden(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.suffix == ".data":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", forbidden)
    assert "cannot be read ([Errno 13] Permission denied" in refused(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permissions(folder: Path) -> None:
    (folder / "encoder.data").chmod(0)
    assert "cannot be read" in refused(folder)


def test_a_file_listed_twice(folder: Path) -> None:
    files = [{"file": name, "sha256": "0" * 64} for name in ("cam.onnx", "./cam.onnx")]
    change(folder, put("graphs", "cam", "files", value=files))
    assert "'./cam.onnx' is a file that is listed before" in refused(folder)


@pytest.mark.parametrize("name", ["cam.ort", "cam", "cam.onnx.data"])
def test_another_suffix(folder: Path, name: str) -> None:
    """ONNX Runtime would read its own format, in which external data are not looked for."""
    (folder / "cam.onnx").rename(folder / name)
    change(folder, put("graphs", "cam", "files", 0, "file", value=name))
    assert "is its first file, expected .onnx" in refused(folder)
    (folder / "cam.onnx").symlink_to(name)
    change(folder, put("graphs", "cam", "files", 0, "file", value="cam.onnx"))
    assert "is its first file, expected .onnx" in refused(folder)


def test_files_too_large(folder: Path) -> None:
    """Sparse files, which take no space; they are not read."""
    with (folder / "cam.onnx").open("r+b") as file:
        file.truncate(5 << 30)
    message = refused(folder)
    assert "cam.onnx has 5.4 GB, expected at most 2.1 GB; SAMREFINE_BUNDLE_LIMITS=2" in message
    with (folder / "cam.onnx").open("r+b") as file:
        file.truncate(0)
    with (folder / "encoder.data").open("r+b") as file:
        file.truncate(80 << 30)
    assert "have 85.9 GB, expected at most 68.7 GB" in refused(folder)


def test_external_data_anywhere_is_found_and_listed_data_accepted(folder: Path) -> None:
    for content in everywhere(external("encoder.data", length="16")).values():
        assert Bundle.load(rewritten(folder, content))


@pytest.mark.parametrize("place", everywhere(b""))
@pytest.mark.parametrize("check_hashes", [True, False])
def test_unlisted_external_data_in_every_place(
    folder: Path, place: str, check_hashes: bool
) -> None:
    (folder / "unlisted.data").write_bytes(bytes(16))
    rewritten(folder, everywhere(external("unlisted.data"))[place])
    message = refused(folder, check_hashes=check_hashes)
    assert message == (
        "graph 'encoder' reads external data from 'unlisted.data', expected a file that "
        "manifest.json lists for it"
    )


OUTSIDE = "secret.data"


@pytest.mark.parametrize(
    "location",
    [
        f"../{OUTSIDE}",
        f"a/../../{OUTSIDE}",
        f"./../{OUTSIDE}",
        "../bundle/encoder.data",
        "a/../encoder.data",
        "linked.data",
        "linked/secret.data",
        "/proc/self/environ",
        "/etc/hostname",
        "cam.onnx",
        "manifest.json",
        "none.data",
        "encoder.data/x",
        "encoder.data\0",
        "encoder.data\n",
        "a\\..\\encoder.data",
        "*/_ORT_MEM_ADDR_/*",
        ".",
        "x" * 1000,
    ],
)
def test_locations_that_are_not_the_graphs_own(folder: Path, location: str) -> None:
    (folder.parent / OUTSIDE).write_bytes(bytes(16))
    (folder / "linked.data").symlink_to(folder.parent / OUTSIDE)
    (folder / "linked").symlink_to(folder.parent)
    (folder / "a").mkdir()
    rewritten(folder, model(field(5, external(location))))
    message = refused(folder)
    assert message.startswith(f"graph 'encoder' reads external data from {location!r}, expected a")


def test_absolute_location_of_a_listed_file(folder: Path) -> None:
    rewritten(folder, model(field(5, external(str(folder.resolve() / "encoder.data")))))
    assert "expected a file that manifest.json lists for it" in refused(folder)


def test_the_address_of_memory_that_is_also_a_file(folder: Path) -> None:
    """ONNX Runtime takes this location, with its offset, for a place in its own memory."""
    location = "*/_ORT_MEM_ADDR_/*"
    (folder / location).parent.mkdir(parents=True)
    (folder / "encoder.data").rename(folder / location)
    change(folder, put("graphs", "encoder", "files", 1, "file", value=location))
    rewritten(folder, model(field(5, external(location, offset="0", length="12"))))
    assert "expected a file that manifest.json lists for it" in refused(folder)


def test_links_inside_the_bundle(folder: Path) -> None:
    """Locations are relative to where the .onnx file is, as the engine takes them."""
    (folder / "blobs").mkdir()
    (folder / "encoder.onnx").rename(folder / "blobs" / "1.onnx")
    (folder / "encoder.onnx").symlink_to("blobs/1.onnx")
    message = refused(folder)
    assert "graph 'encoder' reads external data from 'encoder.data'" in message
    (folder / "blobs" / "encoder.data").symlink_to("../encoder.data")
    assert Bundle.load(folder).graph("encoder").path == folder.resolve() / "blobs" / "1.onnx"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"offset": "5", "length": "12"}, "reads 12 bytes from 5 of 'encoder.data', which has 16"),
        ({"offset": "17"}, "reads 0 bytes from 17 of 'encoder.data', which has 16"),
        ({"length": "17"}, "reads 17 bytes from 0 of 'encoder.data', which has 16"),
        ({"offset": "9" * 19}, "which has 16"),
        ({"offset": "9" * 20}, f"external data at '{'9' * 20}', expected a number of bytes"),
        ({"offset": "-4"}, "external data at '-4', expected a number of bytes"),
        ({"offset": "0x4"}, "external data at '0x4', expected a number of bytes"),
        ({"length": " 4"}, "external data at ' 4', expected a number of bytes"),
        ({"length": "٤"}, "external data at '٤', expected a number of bytes"),
        ({"length": ""}, "external data at '', expected a number of bytes"),
        ({"prepacked_0": "x|0;4"}, "external data of a tensor says 'prepacked_0'"),
    ],
)
def test_places_in_a_file(folder: Path, place: dict[str, str], message: str) -> None:
    rewritten(folder, model(field(5, external("encoder.data", **place))))
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"not a graph", "wire type"),
        (model(field(5, external("encoder.data")))[:-3], "does not"),
        (model(field(1, node("EPContext"))), "operator 'EPContext' does more than compute"),
        (
            model(field(1, node("EPContext", domain="mine"))),
            "operator 'EPContext' does more than compute",
        ),
        (model(field(1, node("Read", domain="a.b"))), "'Read' is of domain 'a.b', which may do"),
        (model(field(5, tensor(field(14, 1)))), "external data of no location"),
        (model(field(5, tensor(entry("offset", "0"), field(14, 1)))), "of no location"),
    ],
)
def test_graphs_that_are_refused(folder: Path, content: bytes, message: str) -> None:
    reason = refused(rewritten(folder, content))
    assert reason.startswith("graph 'encoder': ")
    assert "encoder.onnx is refused: " in reason and message in reason


def test_locations_count_where_the_tensor_says_it_is_inline(folder: Path) -> None:
    """Engines that only look for a location would follow it."""
    rewritten(folder, model(field(5, tensor(entry("location", "../x"), field(9, bytes(12))))))
    assert "reads external data from '../x'" in refused(folder)


def test_a_graph_of_too_many_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten(folder, model(field(1, b"") * 100))
    monkeypatch.setattr(Limits, "current", lambda: Limits(graph_fields=100))
    message = refused(folder)
    assert "it has over 100 fields; SAMREFINE_BUNDLE_LIMITS=2 in the environment" in message


def test_weights_are_not_read(folder: Path) -> None:
    """A graph that holds a gigabyte, as a hole that takes no space, is looked through at once."""
    size = 1 << 30
    raw = key(9) + varint(size)
    initializer = key(5) + varint(len(raw) + size) + raw
    graph = key(7) + varint(len(initializer) + size) + initializer
    with (folder / "encoder.onnx").open("wb") as file:
        file.write(graph)
        file.truncate(len(graph) + size)
    tracemalloc.start()
    try:
        assert Bundle.load(folder, check_hashes=False)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
