"""How outputs are named after images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_MAX_BYTES = 240
"""Longest id, bytes. File systems take names of 255; an output's suffix must fit too."""

_DIGITS = 8
"""Digits of the hash that tells two shortened ids apart."""


def image_id(path: str | Path) -> str:
    """Return what the outputs of an image are named after: its file name without suffix.

    A name so long that an output's would pass the file system's limit is cut, and a part of its
    hash added, so that two long names stay two.
    """
    stem = os.fsencode(Path(path).stem)
    if len(stem) <= _MAX_BYTES:
        return Path(path).stem
    digest = hashlib.sha256(stem).hexdigest()[:_DIGITS]
    # A character of several bytes may be cut: drop what is left of it
    return f"{stem[: _MAX_BYTES - _DIGITS - 1].decode(errors='ignore')}-{digest}"
