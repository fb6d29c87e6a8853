"""What runs the graphs of a bundle: one file per inference engine, one line here.

Everything else in the runtime sees a `Session`; `open` is the only place that makes one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from samrefine_runtime.backends.checked import CheckedSession
from samrefine_runtime.backends.session import AUTO, Session, SessionOptions
from samrefine_runtime.bundle import Graph
from samrefine_runtime.errors import BackendError, BackendUnavailableError, SettingsError
from samrefine_runtime.registry import Registry

__all__ = ["AUTO", "BACKENDS", "Opener", "Session", "SessionOptions", "names", "open"]

_log = logging.getLogger(__name__)

Opener = Callable[[Graph, SessionOptions], Session]
"""Opens a graph. Raises BackendUnavailableError where the backend cannot run on this machine,
BackendError where it rejects the graph."""

# Fastest first: "auto" takes the first one that runs here.
BACKENDS: Registry[Opener] = Registry(
    "backend",
    {
        "tensorrt": "samrefine_runtime.backends.tensorrt:open_tensorrt",
        "cuda": "samrefine_runtime.backends.ort:open_cuda",
        "cpu": "samrefine_runtime.backends.ort:open_cpu",
    },
)


def names() -> tuple[str, ...]:
    """Return what `SessionOptions.backend` may be."""
    return (AUTO, *BACKENDS)


def open(graph: Graph, options: SessionOptions) -> Session:
    """Open a graph of a bundle.

    Args:
        graph: of a loaded bundle.
        options: the backend and its settings; "auto" takes the fastest backend that runs here.

    Raises:
        SettingsError: there is no backend of this name.
        BackendError: the backend cannot run here, rejects the graph, or finds another one than
            the manifest describes.
    """
    if options.backend not in names():
        raise SettingsError(f"backend is {options.backend!r}, expected one of {', '.join(names())}")
    # What a stranger's manifest says is compared with what the engine found, in this one place
    return CheckedSession(graph, _open(graph, options))


def _open(graph: Graph, options: SessionOptions) -> Session:
    """Open a graph in the backend of the options, for "auto" in the first that runs here."""
    if options.backend != AUTO:
        return BACKENDS[options.backend](graph, options)
    reasons = []
    for name in BACKENDS:
        try:
            return BACKENDS[name](graph, options)
        except BackendUnavailableError as error:
            # What is installed but does not start is a defect to mend, not a choice
            level = logging.WARNING if error.is_broken else logging.INFO
            _log.log(level, "backend %s is not used: %s", name, error)
            reasons.append(str(error))
    raise BackendError(reasons[-1])
