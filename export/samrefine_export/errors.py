"""Errors of an export."""

from __future__ import annotations

from samrefine_runtime.errors import InputError, SamrefineError


class ExportError(SamrefineError):
    """A network cannot be exported, or its graph does not compute what the network does."""


class CheckpointError(SamrefineError):
    """A checkpoint is missing or damaged, or its weights belong to another network."""


class RegistryError(InputError):
    """A registry of weights cannot be used."""

    exit_code = 2


class DownloadError(SamrefineError):
    """Weights cannot be had from where they are published; other weights may."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, at most 200 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
