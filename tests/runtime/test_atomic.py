"""Outputs appear whole or not at all, whatever goes wrong."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from samrefine_runtime.atomic import atomic_folder, atomic_path, write_bytes
from samrefine_runtime.errors import OutputError

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_and_makes_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["out.bin"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"out\.txt: cannot be written"),
        atomic_path(tmp_path / "out.txt"),
    ):
        pass
    assert names(tmp_path) == []


def test_name_taken_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out: cannot be written"):
        write_bytes(tmp_path / "out", b"data")
    assert names(tmp_path) == ["out"]


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "out", b"data")


@needs_permissions
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_bytes(tmp_path / "out", b"data")
    tmp_path.chmod(0o700)


def test_full_disk() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="/dev/full: cannot be written"):
        write_bytes(full, b"data")


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "file.txt")
    write_bytes(tmp_path / "link.txt", b"data")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "file.txt").read_bytes() == b"data"


def test_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"data")
    reader.join(10)
    assert read == [b"data"]
    assert pipe.is_fifo()


def test_folder_appears_whole_and_replaces_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    for name, replaced in (("one", []), ("two", ["one"])):
        with atomic_folder(folder, replaces=replaced) as temporary:
            (temporary / name).touch()
            assert names(folder) == ["one"] if folder.exists() else name == "one"
    assert names(folder) == ["two"]
    assert names(tmp_path) == ["masks"]


def test_folder_keeps_the_files_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "mine.txt").write_text("precious")
    (folder / "link").symlink_to("notes")
    with atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert names(folder) == ["link", "new", "notes"]
    assert (folder / "link").readlink() == Path("notes")
    assert (folder / "link" / "mine.txt").read_text() == "precious"


def test_folder_never_replaces_a_file_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "mine").write_text("precious")
    with (
        pytest.raises(OutputError, match=r"mine is in the way and was not written"),
        atomic_folder(folder) as temporary,
    ):
        (temporary / "mine").touch()
    assert (folder / "mine").read_text() == "precious"
    assert names(tmp_path) == ["masks"]


def test_failed_folder_leaves_the_old(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    with atomic_folder(folder) as temporary:
        (temporary / "one").touch()
    with pytest.raises(ValueError, match="stop"), atomic_folder(folder) as temporary:
        (temporary / "two").touch()
        raise ValueError("stop")
    assert names(folder) == ["one"]
    assert names(tmp_path) == ["masks"]


def test_folder_name_taken_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("precious")
    with (
        pytest.raises(OutputError, match="masks: cannot be written"),
        atomic_folder(tmp_path / "masks"),
    ):
        pass
    assert (tmp_path / "masks").read_text() == "precious"
    assert names(tmp_path) == ["masks"]
