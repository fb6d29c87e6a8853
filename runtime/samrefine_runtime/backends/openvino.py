"""OpenVINO, on CPUs: the one engine here that computes in bf16 on those that have it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.session import BF16, FP16, FP32, SessionOptions
from samrefine_runtime.bundle import Graph, TensorSpec
from samrefine_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    InferenceError,
    engine_message,
    message_of,
    printable,
)

_DEVICE = "CPU"

_PRECISIONS = {FP32: "f32", FP16: "f16", BF16: "bf16"}
"""OpenVINO's names of the precisions."""

_KINDS = {"f": "float", "bf": "bfloat", "i": "int", "u": "uint"}
"""NumPy's names of kinds of numbers by those of OpenVINO; the bits follow in both."""

_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "out of memory")
"""What the messages of memory errors contain."""


def open_openvino(graph: Graph, options: SessionOptions) -> OpenVinoSession:
    """Open a graph on the CPU. Raises BackendError."""
    return OpenVinoSession(graph.path, options)


class OpenVinoSession:
    """A graph in OpenVINO."""

    is_on_device = False

    def __init__(self, path: Path, options: SessionOptions):
        """Compile a graph.

        Args:
            path: the .onnx file.
            options: threads, precision, the folder of compiled graphs, and whether memory is given
                back after a run.

        Raises:
            BackendUnavailableError: openvino is missing, or the CPU lacks the precision.
            BackendError: it rejects the graph.
        """
        core = _import_openvino().Core()
        _check_precision(options.precision, core)
        try:
            self._graph = core.compile_model(str(path), _DEVICE, _configuration(options))
            self.inputs: Sequence[TensorSpec] = _tensors(self._graph.inputs)
            self.outputs: Sequence[TensorSpec] = _tensors(self._graph.outputs)
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO cannot load {printable(path)}: {engine_message(error)}"
            ) from error
        self._frees_memory = options.frees_memory

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph; see `Session.run`."""
        # The arrays are views of the tensors, and keep them alive
        return {name: tensor.data for name, tensor in self.run_on_device(feeds).items()}

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph and leave the outputs as OpenVINO's tensors; see `Session.run_on_device`.

        On a CPU both kinds of outputs lie in the same memory.
        """
        self._check_feeds(feeds)
        with _translate_errors():
            # A request of its own for each run, 0.1 ms: its outputs are not overwritten by the
            # next one, so nothing is copied
            request = self._graph.create_infer_request()
            # Not `infer`, which returns empty outputs where memory is short and says nothing
            request.start_async(dict(feeds), share_inputs=True)
            request.wait()
            outputs = {each.name: request.get_tensor(each.name) for each in self.outputs}
            if self._frees_memory:
                self._graph.release_memory()
        return {name: each.data if name in fetch else each for name, each in outputs.items()}

    def _check_feeds(self, feeds: Mapping[str, Any]) -> None:
        """Raise InferenceError unless every input is fed in its dtype.

        OpenVINO would run on whatever lies in the memory of an input that is missing, and convert
        other dtypes silently; it checks names and shapes itself.
        """
        for wanted in self.inputs:
            value = feeds.get(wanted.name)
            dtype = value.dtype.name if isinstance(value, np.ndarray) else wanted.dtype
            if value is None or dtype != wanted.dtype:
                found = "nothing" if value is None else dtype
                raise InferenceError(f"OpenVINO failed: it was fed {found}, expected {wanted}")


def _configuration(options: SessionOptions) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        # Always said: by default OpenVINO computes in bf16 where the CPU can
        "INFERENCE_PRECISION_HINT": _PRECISIONS[options.precision],
        "INFERENCE_NUM_THREADS": options.threads or os.cpu_count() or 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Pinned threads of two processes would share the same cores and leave others idle
        "ENABLE_CPU_PINNING": False,
    }
    return configuration if options.cache is None else {**configuration, "CACHE_DIR": options.cache}


def _check_precision(precision: str, core: Any) -> None:
    """Raise BackendUnavailableError where the CPU would only emulate a precision."""
    known = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision.upper() not in known:
        raise BackendUnavailableError(
            f"this CPU has no {precision} (OpenVINO finds {', '.join(sorted(known))})"
        )


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn OpenVINO's errors into MemoryError and InferenceError."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        if any(words in str(error) for words in _OUT_OF_MEMORY):
            raise MemoryError(engine_message(error)) from error
        raise InferenceError(f"OpenVINO failed: {engine_message(error)}") from error


def _tensors(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Describe inputs or outputs as the manifest does; OpenVINO keeps no names of axes."""
    return tuple(
        TensorSpec(
            port.any_name,
            _dtype(port.element_type.get_type_name()),
            tuple("?" if side.is_dynamic else side.get_length() for side in port.partial_shape),
        )
        for port in ports
    )


def _dtype(name: str) -> str:
    """Return NumPy's name of a dtype, such as float32 for f32."""
    kind, bits = re.fullmatch(r"(\D*)(\d*)", name).groups()  # type: ignore[union-attr]
    return "bool" if name == "boolean" else _KINDS.get(kind, kind) + bits


def _import_openvino() -> Any:
    # Its converter of other formats sends usage data; that is never called from here
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "OpenVINO is not installed: pip install 'samrefine-rt[openvino]'"
        ) from error
    except (ImportError, AttributeError) as error:  # of a library, or built for another NumPy
        raise BackendUnavailableError(
            f"OpenVINO is installed, but does not start ({message_of(error)}): "
            "pip install -U openvino numpy",
            is_broken=True,
        ) from error
    return openvino
