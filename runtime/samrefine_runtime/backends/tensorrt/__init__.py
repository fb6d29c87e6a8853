"""TensorRT, on NVIDIA GPUs: engines that `samrefine build` has built and verified here.

`cuda` and `native` are all that is called of the two libraries, `memory` and `session` run a graph,
`store` and `signing` keep engines beside the bundle's graphs.
"""

from __future__ import annotations

import logging
from functools import cache

from samrefine_runtime.backends.session import FP32, SessionOptions
from samrefine_runtime.backends.tensorrt.cuda import open_cuda
from samrefine_runtime.backends.tensorrt.native import Engine, load
from samrefine_runtime.backends.tensorrt.session import Device, TrtSession
from samrefine_runtime.backends.tensorrt.store import EngineStore, Machine
from samrefine_runtime.bundle import Graph
from samrefine_runtime.errors import BackendError, BackendUnavailableError

_log = logging.getLogger(__name__)


def open_tensorrt(graph: Graph, options: SessionOptions) -> TrtSession:
    """Open the engine of a graph, in the precision in which it was built.

    Raises:
        BackendUnavailableError: there is no verified engine for this machine, or no GPU or
            TensorRT that could run it; or another precision than the graphs' is asked for.
    """
    if options.precision != FP32:
        raise BackendUnavailableError(
            f"TensorRT engines have the precision of samrefine build, not {options.precision}"
        )
    store = EngineStore(graph.path.parent)
    # Before CUDA starts, which takes memory and a second
    if store.is_empty:
        raise BackendUnavailableError("the bundle has no TensorRT engines: samrefine build")
    # The device before TensorRT, which crashes without one
    device = open_device()
    native = load()
    verdict, plan = store.find(graph, Machine.of(device.cuda, native))
    try:
        engine = Engine(native, plan)
    except BackendError as error:
        raise BackendUnavailableError(
            f"{error}; build it again: samrefine build", is_broken=True
        ) from error
    _log.info("graph %s runs in TensorRT %s, %s", graph.name, native.version, verdict.precision)
    return TrtSession(graph.name, engine, device)


@cache
def open_device() -> Device:
    """Return the device that all sessions share. Raises BackendUnavailableError."""
    return Device.of(open_cuda())
