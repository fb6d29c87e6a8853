"""Names of classes: lists of them in files, and what the classes of a folder of labels are called.

A list is a text file with one name per line, or a JSON list. Names count from class 1; a first name
"background" is class 0 and may be left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.labels import MAX_CLASS

FILE_NAME = "classes.txt"
"""File in an output folder that names its classes, background first."""

BACKGROUND = "background"
"""Name of class 0."""

_BACKGROUNDS = ("background", "__background__", "_background_")
"""What the background is called in lists: by most, by torchvision, by labelme."""

_VOC_ID = re.compile(r"20(0[789]|1[012])_\d{6}")
"""Ids of PASCAL VOC's images from 2008 on, and of those of 2007 that its later years kept."""


def read_classes(path: StrPath) -> tuple[str, ...]:
    """Read the foreground class names of a file: one per line, or a JSON list of strings.

    Raises:
        SettingsError: no such file, not text, not a list of names, empty, or a name twice.
    """
    path = as_path(path, "path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the class list {path} ({error})") from error
    if not text.lstrip().startswith("["):
        return _checked([line.strip() for line in text.splitlines() if line.strip()], path)
    try:
        return _checked(json.loads(text), path)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path} is not a valid JSON list ({error})") from error


def classes_of(classes: StrPath | Sequence[str]) -> tuple[str, ...]:
    """Return foreground class names given as a file or as a sequence.

    Raises:
        SettingsError: see `read_classes`.
    """
    if isinstance(classes, (str, os.PathLike)):
        return read_classes(as_path(classes, "classes"))
    # A set has no order, and the order is that of the label values
    if not isinstance(classes, Sequence):
        raise SettingsError(f"classes is {described(classes)}, expected a file or a list of names")
    return _checked(list(classes), "classes")


def write_classes(path: Path, classes: Sequence[str]) -> None:
    """Write class names, background first, one per line: line v + 1 is label value v.

    Raises OutputError.
    """
    # A JSON list where a name has a line break
    is_plain = all(len(name.splitlines()) == 1 for name in classes)
    text = "\n".join(classes) if is_plain else json.dumps(list(classes))
    write_bytes(path, f"{text}\n".encode())


def numbered(count: int) -> tuple[str, ...]:
    """Return names for foreground classes that have none, `count` with background."""
    return tuple(f"class {value}" for value in range(1, count))


def are_voc(ids: Iterable[str]) -> bool:
    """Return whether images are called as PASCAL VOC's are: 2007_000063 and the like."""
    names = [name.rpartition("/")[2] for name in ids]
    return bool(names) and all(map(_VOC_ID.fullmatch, names))


def _checked(names: Any, source: object) -> tuple[str, ...]:
    """Return class names as a tuple; raise SettingsError, naming `source`, where they are not."""
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise SettingsError(
            f"{source} is not a list of class names: expected texts, got {described(names)}"
        )
    if names and names[0] in _BACKGROUNDS:
        names = names[1:]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsError(f"{source} names {repeated[0]!r} more than once, expected each once")
    if not 1 <= len(names) <= MAX_CLASS:
        raise SettingsError(
            f"{source} names {len(names)} classes, expected 1 to {MAX_CLASS}: label maps are "
            "uint8 with 0 for background and 255 for void"
        )
    return tuple(names)
