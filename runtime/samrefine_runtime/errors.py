"""The one exception family; the CLI prints the message as one line and exits with `exit_code`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: object) -> str:
    """Return a text with its control characters escaped, as one line that is safe to print.

    Names of files and texts of bundles come from strangers: a newline in one would forge a line of
    output, an escape sequence would drive the terminal, a lone surrogate (a byte of a file name
    that is no UTF-8) cannot be encoded.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in str(text)
    )


def message_of(error: BaseException) -> str:
    """Return what an error says as one line that is safe to print."""
    return printable(error) or ("out of memory" if isinstance(error, MemoryError) else repr(error))


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" with the known name that is most like one, "" if none is."""
    # Two of three letters are not alike: "gpu" is not meant to be "cpu"
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.7)
    return f", did you mean {close[0]}?" if close else ""


_LONGEST_MESSAGE = 500
"""Characters of an engine's message, which may contain whole nodes."""


def engine_message(error: BaseException) -> str:
    """Return what an engine says, which may hold names from a graph and many lines, as one line."""
    return printable(" ".join(str(error).split()))[:_LONGEST_MESSAGE]


class SamrefineError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 2


class SettingsError(SamrefineError, ValueError):
    """A parameter is out of range, or parameters contradict each other."""


class MaskIndexError(SettingsError, IndexError):
    """There is no mask at an index, or the index is none."""


class BundleError(SamrefineError):
    """A bundle is missing, damaged, of an unknown format, or lacks a graph."""


class BackendError(SamrefineError):
    """No inference backend can run the graphs here."""


class BackendUnavailableError(BackendError):
    """One backend cannot run on this machine; another one may.

    `is_broken` is True for a backend that is installed but does not start, False if it is absent.
    """

    def __init__(self, message: str, *, is_broken: bool = False):
        super().__init__(message)
        self.is_broken = is_broken


class InferenceError(BackendError):
    """A graph fails on one image, or gives what it may not; other images may work."""

    exit_code = 1


class InputError(SamrefineError):
    """One input file cannot be used; the other inputs are not affected."""

    exit_code = 1


class ImageError(InputError):
    """An image cannot be read."""


class LabelError(InputError):
    """A label map or an image-level label does not fit its image or the class list."""


class ImageLabelsError(LabelError):
    """The image-level labels of a whole set of images cannot be used."""

    exit_code = 2


class MaskFileError(InputError):
    """A file of masks cannot be read."""


class RunError(SamrefineError):
    """An output folder is in use, or holds the results of another run."""


class OutputError(SamrefineError):
    """A result cannot be written: permissions, a name that is taken or too long."""

    exit_code = 1


class StorageError(OutputError):
    """No result can be written any more: the disk is full, read-only or broken."""
