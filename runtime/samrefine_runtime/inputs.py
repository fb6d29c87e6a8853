"""Input files, which may come from strangers: that they are files, and how much of them is read.

A file of a few bytes can stand for gigabytes of pixels, and a sparse file of any size is free.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from samrefine_runtime.errors import InputError, SettingsError, printable

_MEGA = 1_000_000


@dataclass(frozen=True)
class Limit:
    """A limit far above what honest files need, which an environment variable replaces."""

    variable: str
    """Name of the environment variable."""
    default: int
    most: int
    """The largest value that the variable may have."""

    def value(self) -> int:
        """Return the limit that applies now. Raises SettingsError for a variable that is none."""
        text = os.environ.get(self.variable, str(self.default))
        # int() would take signs, underscores and the digits of every script
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= self.most):
            raise SettingsError(
                f"{self.variable} is {printable(text)!r}, expected a whole number from 1 to "
                f"{self.most}"
            )
        return int(text)

    def exceeded(self, actual: int, unit: str) -> str:
        """Describe what is above the limit: limit, actual value, and how to raise it."""
        text = f"{actual} {unit}, the limit is {self.value()}"
        if actual > self.most:
            return text
        return f"{text}; {self.variable}={actual} in the environment raises it"


MAX_MEGAPIXELS = Limit("SAMREFINE_MAX_MEGAPIXELS", 128, 2147)
"""Million pixels of an image, a label or a mask. Run lengths, and the differences of any two as
COCO stores them, must fit 32 bits with sign: 2147 is the end."""

MAX_MEGABYTES = Limit("SAMREFINE_MAX_MEGABYTES", 512, 1_000_000)
"""Million bytes of a JSON or CSV file, which is parsed as a whole. The largest of COCO's own
annotation files, with all of its training set, has 470."""


def check_pixels(image_shape: tuple[int, int], max_pixels: int | None = None) -> None:
    """Raise ValueError if an image of (H, W) pixels is too large to be read.

    A caller may allow fewer pixels than `MAX_MEGAPIXELS`.
    """
    height, width = image_shape
    if max_pixels is not None and height * width > max_pixels:
        raise ValueError(f"{width} x {height} pixels, the limit is {max_pixels}")
    if height * width > MAX_MEGAPIXELS.value() * _MEGA:
        megapixels = -(-height * width // _MEGA)
        what = MAX_MEGAPIXELS.exceeded(megapixels, "megapixels")
        raise ValueError(f"{width} x {height} pixels are {what}")


def check_file(path: str | Path, error_type: type[InputError]) -> None:
    """Check that a path leads to a regular file.

    Devices and pipes are refused: they have no end, or wait for ever.

    Raises:
        InputError: of type `error_type`, with what is there instead.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        what = "no such file"
        if Path(path).is_symlink():
            what = f"a link to {Path(path).readlink()}, which does not exist"
        raise error_type(f"{path}: {what}") from None
    # ValueError: a null character in the name
    except (OSError, ValueError) as error:
        raise error_type(f"{path}: {_reason(error)}") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise error_type(f"{path}: {what}, expected a file")


def read_bytes(path: str | Path, error_type: type[InputError]) -> bytes:
    """Read a file of at most `MAX_MEGABYTES`.

    Raises:
        InputError: of type `error_type`, if there is no such file, or it is unreadable or larger.
    """
    check_file(path, error_type)
    most = MAX_MEGABYTES.value() * _MEGA
    try:
        with Path(path).open("rb") as file:
            # By what is read and not by its size: a file may grow, or have none, as in /proc
            content = file.read(most + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise error_type(f"{path}: {_reason(error)}") from error
    if len(content) > most:
        megabytes = -(-max(size, len(content)) // _MEGA)
        raise error_type(f"{path}: {MAX_MEGABYTES.exceeded(megabytes, 'megabytes')}")
    return content


def _reason(error: Exception) -> str:
    """Describe why a file cannot be opened or read."""
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
