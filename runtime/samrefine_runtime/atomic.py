"""Outputs appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from samrefine_runtime.errors import OutputError, StorageError

_STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors that the next file would meet too."""


@contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Convert an OSError of the block to an OutputError that names `path`.

    Raises:
        StorageError: the disk takes no more.
        OutputError: any other reason.
    """
    try:
        yield
    except OSError as error:
        kind = StorageError if error.errno in _STORAGE else OutputError
        raise kind(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a hidden sibling of `path` to write; it replaces `path` on success.

    The sibling ends in `.tmp`, so state the format when saving. Missing parent folders are
    created. If the block raises, the sibling is removed and `path` stays as it was.

    Raises:
        OutputError: the file cannot be written or put in place.
    """
    target = Path(path)
    with output_errors(target):
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
def atomic_folder(path: str | Path, *, replaces: Iterable[str] = ()) -> Iterator[Path]:
    """Yield an empty hidden sibling folder to fill; it takes the place of `path` on success.

    Files that are in `path` already stay there, beside the new ones, but for those that it
    replaces. If the block raises, the sibling is removed and `path` stays as it was.

    Args:
        path: the folder, which need not exist.
        replaces: files of `path` that the caller wrote, relative to it; they go.

    Raises:
        OutputError: the folder cannot be written or put in place, or a file that is not replaced
            has the name of a new one.
    """
    target = Path(path)
    with output_errors(target):
        target = target.resolve()
        temporary = _sibling(target)
        temporary.mkdir()
        try:
            yield temporary
            if target.is_dir():
                _carry_over(target, temporary, {target / name for name in replaces})
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
        with output_errors(target):
            target.write_bytes(data)
        return
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


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


def _carry_over(old: Path, new: Path, replaced: set[Path]) -> None:
    """Give a new folder the files of the old one, but for those that are replaced."""
    for path in sorted(old.rglob("*")):
        target = new / path.relative_to(old)
        if path in replaced or (path.is_dir() and not path.is_symlink()):
            continue
        if target.exists() or target.is_symlink():
            raise OutputError(f"{path} is in the way and was not written by this package")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(path, target, follow_symlinks=False)


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
