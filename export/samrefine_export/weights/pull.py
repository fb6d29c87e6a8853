"""Pulling weights: once, whole, compared with what is known of them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samrefine_export.errors import DownloadError
from samrefine_export.weights.cache import weights_path
from samrefine_export.weights.download import Patience, download, shown
from samrefine_export.weights.partial import Partial
from samrefine_export.weights.registry import Weights, known_weights, weights_of
from samrefine_runtime.arguments import Progress, as_progress
from samrefine_runtime.atomic import output_errors
from samrefine_runtime.bundle import sha256_of
from samrefine_runtime.checks import described
from samrefine_runtime.errors import OutputError, SettingsError

MIRROR = "SAMREFINE_MIRROR"
"""Environment variable with the URL of a mirror."""

_POLL_SECONDS = 0.2


def pull(
    weights: Weights | str,
    *,
    mirror: str | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the file of weights in the cache; it is transferred unless it is there and sound.

    An interrupted transfer goes on where it ended. Several may pull the same weights at once: one
    transfers, the others wait for it. The file appears under its name only once it was compared
    with the size and the sha256 that are known.

    Args:
        weights: of a registry, or their name.
        mirror: URL of a copy of the cache's folder `weights`, by default that of the environment
            variable SAMREFINE_MIRROR; None for where the weights are published.
        patience: how long to wait, how often to try.
        progress: called with bytes that have come, and bytes in all or 0 if that is unknown.

    Raises:
        SettingsError: there are no weights of this name, or an argument is of another type.
        RegistryError: a registry of the user cannot be read.
        DownloadError: they cannot be had, or are not what they should be; the message says how to
            put the file in its place by hand.
        OutputError: the cache cannot be written.
    """
    weights = _weights(weights)
    url, path = _source(weights, mirror), weights_path(weights)
    part, report = Partial(path), as_progress(progress)
    if patience is not None and not isinstance(patience, Patience):
        raise SettingsError(f"patience is {described(patience)}, expected a Patience or None")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(part, weights, report):
        if path.is_file() and _fault(path, weights) is None:
            return path
        try:
            _fetch(weights, url, part, patience or Patience(), report)
        except DownloadError as error:
            raise DownloadError(
                f"{error}. By hand: put {shown(url)} at {path}, then samrefine pull "
                f"{weights.name} compares it"
            ) from error
        _put_in_place(part)
    return path


def _weights(weights: Weights | str) -> Weights:
    """Return weights, which may be given by name. Raises SettingsError."""
    if isinstance(weights, Weights):
        return weights
    return weights_of(weights, known_weights())


def _source(weights: Weights, mirror: str | None) -> str:
    """Return the URL to pull from. Raises SettingsError for a mirror that is no URL."""
    prefix = os.environ.get(MIRROR) or None if mirror is None else mirror
    if prefix is None:
        return weights.url
    if not isinstance(prefix, str) or not prefix.startswith(("http://", "https://")):
        raise SettingsError(f"mirror is {described(prefix)}, expected an http or https URL")
    return f"{prefix.rstrip('/')}/{weights.name}/{weights.file}"


@contextmanager
def _alone(part: Partial, weights: Weights, progress: Progress) -> Iterator[None]:
    """Hold the lock on weights; while another process has it, its progress is reported."""
    path = part.target.with_name(".lock")
    with output_errors(path):
        file = path.open("a")
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                progress(part.size, weights.size or 0)
                time.sleep(_POLL_SECONDS)
            except OSError as error:  # a file system without locks
                raise OutputError(f"{path} cannot be locked ({error.strerror})") from error
        yield


def _fetch(
    weights: Weights, url: str, part: Partial, patience: Patience, progress: Progress
) -> None:
    """Fill `part` and compare it; a resumed file that is wrong is fetched once more, all of it.

    Raises DownloadError; nothing that is wrong is kept.
    """
    is_resumed = part.size > 0
    if weights.size is None or part.size != weights.size:
        download(weights, url, part, patience, progress)
    fault = _fault(part.path, weights)
    if fault is None:
        return
    part.discard()
    if is_resumed:
        return _fetch(weights, url, part, patience, progress)
    raise DownloadError(f"{shown(url)} {fault}: damaged on the way, or another file is there")


def _fault(path: Path, weights: Weights) -> str | None:
    """Say in what a file differs from what is known of the weights, None if in nothing."""
    size = path.stat().st_size
    if weights.size not in (None, size):
        return f"has {size} bytes, expected {weights.size}"
    if weights.sha256 is not None:
        found = sha256_of(path)
        if not found.startswith(weights.sha256):
            return f"has sha256 {found}, expected {weights.sha256}"
    return None


def _put_in_place(part: Partial) -> None:
    """Give a whole file its name. Raises OutputError."""
    with output_errors(part.target):
        with part.path.open("rb") as file:
            os.fsync(file.fileno())
        part.path.replace(part.target)
        part.discard()
