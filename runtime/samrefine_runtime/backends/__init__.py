"""What runs the graphs of a bundle: one file per inference engine, one line here.

Everything else in the runtime sees a `Session`; `open` is the only place that makes one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from samrefine_runtime.backends.checked import CheckedSession, RunsOn
from samrefine_runtime.backends.session import AUTO, Session, SessionOptions
from samrefine_runtime.bundle import Graph
from samrefine_runtime.errors import BackendError, BackendUnavailableError, SettingsError
from samrefine_runtime.registry import Registry

__all__ = [
    "AUTO",
    "BACKENDS",
    "CheckedSession",
    "Opener",
    "RunsOn",
    "Session",
    "SessionOptions",
    "names",
    "open",
    "runs_on",
]

_log = logging.getLogger(__name__)

Opener = Callable[[Graph, SessionOptions], Session]
"""Opens a graph. Raises BackendUnavailableError where the backend cannot run on this machine,
BackendError where it rejects the graph."""

# As "auto" prefers them: it takes the first one that runs here. OpenVINO in fp32 is as fast as
# ONNX Runtime, so it comes last: it is taken for bf16, or where there is no ONNX Runtime.
BACKENDS: Registry[Opener] = Registry(
    "backend",
    {
        "tensorrt": "samrefine_runtime.backends.tensorrt:open_tensorrt",
        "cuda": "samrefine_runtime.backends.ort:open_cuda",
        "cpu": "samrefine_runtime.backends.ort:open_cpu",
        "openvino": "samrefine_runtime.backends.openvino:open_openvino",
    },
)


def runs_on(*sessions: CheckedSession) -> dict[str, RunsOn]:
    """Return what runs the graphs of sessions, by graph."""
    return {session.graph.name: session.runs_on for session in sessions}


def names() -> tuple[str, ...]:
    """Return what `SessionOptions.backend` may be."""
    return (AUTO, *BACKENDS)


def open(graph: Graph, options: SessionOptions) -> CheckedSession:
    """Open a graph of a bundle.

    Args:
        graph: of a loaded bundle.
        options: the backend and its settings; "auto" takes the first backend that runs here.

    Returns:
        A session that also says which backend runs it, and why one before it in `BACKENDS` does
        not.

    Raises:
        SettingsError: there is no backend of this name.
        BackendError: the backend cannot run here, rejects the graph, or finds another one than
            the manifest describes.
    """
    if options.backend not in names():
        raise SettingsError(f"backend is {options.backend!r}, expected one of {', '.join(names())}")
    session, found = _open(graph, options)
    _log.info("backend %s runs graph %s in %s", found.backend, graph.name, options.precision)
    # What a stranger's manifest says is compared with what the engine found, in this one place
    return CheckedSession(graph, session, found)


def _open(graph: Graph, options: SessionOptions) -> tuple[Session, RunsOn]:
    """Open a graph in the backend of the options, for "auto" in the first that runs here."""
    if options.backend != AUTO:
        return BACKENDS[options.backend](graph, options), RunsOn(options.backend, {})
    reasons: dict[str, str] = {}
    for name in BACKENDS:
        try:
            return BACKENDS[name](graph, options), RunsOn(name, reasons)
        except BackendUnavailableError as error:
            # What is installed but does not start is a defect to mend, not a choice
            level = logging.WARNING if error.is_broken else logging.INFO
            _log.log(level, "backend %s is not used: %s", name, error)
            reasons[name] = str(error)
    # Several backends may lack the same package
    raise BackendError(f"no backend runs here: {'; '.join(dict.fromkeys(reasons.values()))}")
