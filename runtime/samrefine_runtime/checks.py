"""Checks of paths and arrays that callers pass, and how messages describe a value.

What each public entry accepts is said in `arguments`, which builds on them.
"""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import SamrefineError, SettingsError, printable

StrPath = str | os.PathLike[str]
"""A path as callers may pass it."""

Shape = tuple[int | None, ...]
"""Shape of an array; None stands for any length."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80

_LONGEST = 300
"""Characters of a description."""


def described(value: object) -> str:
    """Describe a value in one short line, for messages that say what was passed.

    Arrays are described by shape and dtype, objects of other packages by their type.
    """
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    if type(value).__module__ in ("builtins", "numpy") or isinstance(value, os.PathLike):
        try:
            text = printable(_short.repr(value))
            # Things in things are each short, but not all together
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        except ValueError:  # whole numbers of more than 4300 digits have no repr
            pass
    return f"a {type(value).__name__}"


def as_path(
    value: StrPath,
    name: str,
    error: type[SamrefineError] = SettingsError,
    expected: str = "a path (str or Path)",
) -> Path:
    """Return a path that a caller passed. Raises `error` where it is none, or is an empty text."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else b""
    # The system cannot have a name with a null character; an empty text would be the folder "."
    if not isinstance(text, str) or not text or "\0" in text:
        raise error(f"{name} is {described(value)}, expected {expected}")
    return Path(text)


def as_array(
    value: Any,
    name: str,
    expected: str,
    *shapes: Shape,
    kinds: str = "iuf",
    is_finite: bool = True,
    error: type[SamrefineError] = SettingsError,
) -> NDArray[Any]:
    """Return an array, or what NumPy makes one of, such as a list of numbers.

    Args:
        value: what the caller passed.
        name: of the parameter, for the message.
        expected: what is expected, for the message.
        shapes: one of which it must have.
        kinds: NumPy's letters of the dtypes that it may have (`numpy.dtype.kind`).
        is_finite: whether NaN and infinity are refused.
        error: what is raised.

    Raises:
        SamrefineError: of type `error`, with expected and actual.
    """
    try:
        array = np.asarray(value)
    except Exception:  # lists of uneven length, and whatever a stranger's __array__ raises
        raise error(f"{name} is {described(value)}, expected {expected}") from None
    # An empty list has no dtype of its own
    if array.size and array.dtype.kind not in kinds:
        raise error(f"{name} is {described(value)}, expected {expected}")
    if not any(_fits(array.shape, shape) for shape in shapes):
        raise error(f"{name} is {described(array)}, expected {expected}")
    if is_finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise error(f"{name} is {described(array)} with NaN or infinity, expected {expected}")
    return array


def _fits(actual: tuple[int, ...], wanted: Shape) -> bool:
    """Return whether a shape has the wanted lengths, of which None is any."""
    return len(actual) == len(wanted) and all(
        want in (None, have) for have, want in zip(actual, wanted, strict=True)
    )
