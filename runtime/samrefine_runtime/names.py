"""How outputs are named after images, and how images are found by names in lists."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

_MAX_BYTES = 240
"""Longest part of an id, bytes. File systems take names of 255; an output's suffix must fit too."""

_DIGITS = 8
"""Digits of the hash that tells two shortened ids apart."""

Value = TypeVar("Value")


def image_id(path: str | Path, root: str | Path | None = None) -> str:
    """Return what the outputs of an image are named after: its file name without suffix.

    A name so long that an output's would pass the file system's limit is cut, and a part of its
    hash added, so that two long names stay two.

    Args:
        path: of the image.
        root: a folder above it; the folders between are part of the id, as in "cats/1".
    """
    folders = Path(path).parent.relative_to(root).parts if root is not None else ()
    return "/".join(map(_shortened, (*folders, Path(path).stem)))


def _shortened(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _MAX_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:_DIGITS]
    # A character of several bytes may be cut: drop what is left of it
    return f"{encoded[: _MAX_BYTES - _DIGITS - 1].decode(errors='ignore')}-{digest}"


def file_name(image_id: str, image: Path) -> str:
    """Return the name of an image's file with the folders of its id, as in "cats/1.jpg"."""
    return str(PurePosixPath(image_id).with_name(image.name))


def listed_id(name: str, suffixes: Iterable[str]) -> str:
    """Return the id of an image that a list names.

    Args:
        name: file name or id, with any folders; backslashes separate them too, since lists are also
            written on Windows.
        suffixes: of images, lower case; what ends otherwise is no suffix but a part of the id.
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    kept = path.stem if path.suffix.lower() in suffixes else path.name
    folders = [part for part in path.parts[:-1] if part not in ("/", "..")]
    return "/".join(map(_shortened, (*folders, kept)))


class ByImage(Mapping[str, Value]):
    """Values by image id, for lists whose names have more or fewer folders than the ids.

    An id that is listed as it is comes first. Else "cats/1" is found as "train/cats/1" or as "1":
    the one that has most folders in common, if there is only one such.
    """

    def __init__(self, listed: Mapping[str, Value]):
        self._listed = listed
        self._by_name: dict[str, list[str]] = {}
        for name in listed:
            self._by_name.setdefault(name.rpartition("/")[2], []).append(name)

    def __getitem__(self, image_id: str) -> Value:
        """Return the value of an image. Raises KeyError where there is none, or several may be."""
        if image_id in self._listed:
            return self._listed[image_id]
        found: dict[int, list[str]] = {}
        for name in self._by_name.get(str(image_id).rpartition("/")[2], ()):
            shorter, longer = sorted((name.split("/"), str(image_id).split("/")), key=len)
            if longer[-len(shorter) :] == shorter:
                found.setdefault(len(shorter), []).append(name)
        closest = found[max(found)] if found else []
        if len(closest) != 1:
            raise KeyError(image_id)
        return self._listed[closest[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)
