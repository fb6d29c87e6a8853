"""Whether a file is still the one that was read or written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from samrefine_runtime.bundle import sha256_of

Glance = tuple[int, int]
"""Size in bytes and time of the last change in ns: what can be known without reading."""


@dataclass(frozen=True)
class Fingerprint:
    """Size, time and content of a file, or of a folder with all files in it."""

    size: int
    """Bytes; of a folder, of all its files."""
    mtime_ns: int
    """Time of the last change; of a folder, the latest of its files."""
    sha256: str
    """Hex sha256 of the content; of a folder, of its files' names and contents."""

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Read a file or folder. Raises OSError."""
        seen = glance(path)
        return cls(*seen, _content(path, seen))

    def fits(self, path: Path) -> bool:
        """Return whether a file or folder has this content.

        It is only read where its size is the same and its time is not, as in a copied folder.
        A file that is missing or cannot be read does not fit.
        """
        try:
            size, mtime_ns = seen = glance(path)
            return size == self.size and (
                mtime_ns == self.mtime_ns or _content(path, seen) == self.sha256
            )
        except OSError:
            return False

    def to_json(self) -> list[Any]:
        """Return [size, mtime_ns, sha256]."""
        return list(astuple(self))

    @classmethod
    def of_json(cls, value: Any) -> Fingerprint:
        """Read the value of `to_json`. Raises ValueError."""
        kinds = (int, int, str)
        if not isinstance(value, list) or [type(each) for each in value] != [*kinds]:
            raise ValueError(f"{value!r} is no fingerprint")
        return cls(*value)


def glance(path: Path) -> Glance:
    """Return the size and the time of a file, or of a folder with all files in it.

    Raises OSError.
    """
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    inside = [glance(file) for file in _files(path)]
    return sum(size for size, _ in inside), max((time for _, time in inside), default=0)


@lru_cache(maxsize=8)
def _content(path: Path, _seen: Glance) -> str:
    """Hash a file or folder that looks like this.

    What many images share, such as one file of all masks, is read once.
    """
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(
            f"{file.relative_to(path)}\0{sha256_of(file)}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def _files(folder: Path) -> Sequence[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
