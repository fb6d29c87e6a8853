"""Label values of the class names that other programs' files hold."""

from __future__ import annotations

from collections.abc import Sequence

from samrefine_runtime.arguments import unknown_class
from samrefine_runtime.errors import LabelError
from samrefine_runtime.labels import IGNORE, MAX_CLASS

_BACKGROUNDS = ("background", "__background__", "_background_")
"""Names of the background, by which a person can erase what lies under a shape."""

_IGNORED = ("__ignore__", "ignore", "ignored", "void")
"""Names of pixels of no class, unless they are among the classes."""


def class_value(name: str, classes: Sequence[str]) -> int:
    """Return the label value of a class name.

    Args:
        name: of a class, of the background or of no class.
        classes: names, background first.

    Raises:
        LabelError: an unknown name.
    """
    if name in classes:
        return classes.index(name)
    if name in _BACKGROUNDS:
        return 0
    if name in _IGNORED:
        return IGNORE
    raise LabelError(unknown_class(name, classes[1:]))


def is_class(name: str) -> bool:
    """Return whether a name is that of a foreground class."""
    return name not in _BACKGROUNDS and name not in _IGNORED


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names, background first, as a tuple. Raises LabelError for too many."""
    if len(names) > MAX_CLASS + 1:
        raise LabelError(f"{len(names)} classes, expected at most {MAX_CLASS + 1} with background")
    return tuple(names)
