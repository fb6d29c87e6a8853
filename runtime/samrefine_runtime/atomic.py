"""Outputs appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samrefine_runtime.errors import OutputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a hidden sibling of `path` to write; it replaces `path` on success.

    The sibling ends in `.tmp`, so state the format when saving. Missing parent folders are
    created. If the block raises, the sibling is removed and `path` stays as it was.

    Raises:
        OutputError: the file cannot be written or put in place.
    """
    target = Path(path)
    with _output_errors(target):
        # Replace the file that a link points to, not the link
        target = target.resolve()
        temporary = _sibling(target)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(target)
        # BaseException: an interrupted run must not leave temporary files
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty hidden sibling folder to fill; it replaces `path` on success.

    An existing folder is replaced as a whole; an existing file is an error. If the block raises,
    the sibling is removed and `path` stays as it was.

    Raises:
        OutputError: the folder cannot be written or put in place.
    """
    target = Path(path)
    with _output_errors(target):
        target = target.resolve()
        temporary = _sibling(target)
        temporary.mkdir()
        try:
            yield temporary
            _replace_folder(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file through `atomic_path`; pipes and devices are written directly.

    Raises:
        OutputError: the file cannot be written.
    """
    # A pipe or device such as /dev/stdout must not be replaced by a file
    target = Path(path)
    if target.is_fifo() or target.is_char_device():
        with _output_errors(target):
            target.write_bytes(data)
        return
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Convert an OSError of the block to an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _sibling(target: Path) -> Path:
    """Return an unused hidden path beside `target`: a rename is atomic in one file system only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".samrefine-{secrets.token_hex(6)}.tmp")


def _flush(path: Path) -> None:
    """Flush a file's content to the disk.

    Without this a power cut after the rename can leave an empty file under the final name.
    """
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace_folder(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`, which may be a folder with files."""
    if not target.is_dir():
        temporary.rename(target)
        return
    # A folder with files cannot be renamed over: move it aside, and back if the second rename fails
    old = _sibling(target)
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
