"""ONNX Runtime, on CPUs and on NVIDIA GPUs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.session import BF16, FP32, SessionOptions
from samrefine_runtime.bundle import Graph, TensorSpec
from samrefine_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    InferenceError,
    engine_message,
    message_of,
    printable,
)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""Its kernel is slower on CPUs than the Add and LayerNormalization it replaces."""

_DTYPES = {
    f"tensor({name})": dtype
    for name, dtype in {
        "float": "float32",
        "double": "float64",
        **{same: same for same in ("float16", "bfloat16", "bool")},
        **{
            f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
        },
    }.items()
}
"""NumPy's names of dtypes by those of ONNX Runtime."""

_SHRINK_ARENA = ("memory.enable_memory_arena_shrinkage", "cpu:0")


def open_cpu(graph: Graph, options: SessionOptions) -> OrtSession:
    """Open a graph on the CPU, where fp16 is computed in fp32 between roundings.

    Raises BackendError.
    """
    if options.precision == BF16:
        raise BackendUnavailableError(
            "ONNX Runtime has no bf16 on CPUs: pip install 'samrefine-rt[openvino]'"
        )
    return OrtSession(_written_in(graph, options.precision), [_CPU], options)


def open_cuda(graph: Graph, options: SessionOptions) -> OrtSession:
    """Open a graph on an NVIDIA GPU; operators without a CUDA kernel run on the CPU.

    Raises BackendError.
    """
    # Never its TensorRT provider: it builds engines of its own in fp16 or not at all, unverified
    return OrtSession(_written_in(graph, options.precision), [_CUDA, _CPU], options)


class OrtSession:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, providers: list[str], options: SessionOptions):
        """Load a graph.

        Args:
            path: the .onnx file.
            providers: ONNX Runtime's execution providers, the one that must start first.
            options: threads, and whether memory is given back after a run.

        Raises:
            BackendUnavailableError: onnxruntime is missing, does not offer or cannot start the
                first provider.
            BackendError: it rejects the graph.
        """
        ort = import_onnxruntime()
        _check_offered(providers[0], ort.get_available_providers())
        try:
            self._session = ort.InferenceSession(
                str(path),
                _native_options(ort, options),
                providers=providers,
                disabled_optimizers=_SLOW_FUSIONS,
            )
        except Exception as error:  # ONNX Runtime's error types are not public
            raise BackendError(
                f"ONNX Runtime cannot load {printable(path)}: {engine_message(error)}"
            ) from error
        _check_started(providers[0], self._session.get_providers())
        self.is_on_device = providers[0] == _CUDA
        self._device = "cuda" if self.is_on_device else "cpu"
        self._run_options = ort.RunOptions()
        if options.frees_memory:
            self._run_options.add_run_config_entry(*_SHRINK_ARENA)
        self.inputs: Sequence[TensorSpec] = _tensors(self._session.get_inputs())
        self.outputs: Sequence[TensorSpec] = _tensors(self._session.get_outputs())
        self._outputs = [output.name for output in self.outputs]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph; see `Session.run`."""
        if not all(isinstance(value, np.ndarray) for value in feeds.values()):
            with _translate_errors():
                outputs = self._run_bound(feeds, self._outputs)
                return {name: value.numpy() for name, value in outputs.items()}
        with _translate_errors():
            values = self._session.run(None, dict(feeds), self._run_options)
        return dict(zip(self._outputs, map(np.asarray, values), strict=True))

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph and leave the outputs on the device; see `Session.run_on_device`."""
        with _translate_errors():
            outputs = self._run_bound(feeds, fetch)
            return {n: v.numpy() if n in fetch else v for n, v in outputs.items()}

    def _run_bound(self, feeds: Mapping[str, Any], on_host: Collection[str]) -> dict[str, Any]:
        """Run the graph on feeds where they lie; its outputs are OrtValues, some on the host."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if name in on_host else self._device)
        self._session.run_with_iobinding(binding, self._run_options)
        return dict(zip(self._outputs, binding.get_outputs(), strict=True))


def _native_options(ort: Any, options: SessionOptions) -> Any:
    native = ort.SessionOptions()
    # Fatal errors alone: others come as exceptions, and would be printed in raw form beside them
    native.log_severity_level = 4
    native.intra_op_num_threads = options.threads or os.cpu_count() or 1
    # Spinning threads take the cores from mask handling, which runs beside the decoder.
    native.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory patterns plan for fixed shapes; with ours they only hold memory.
    native.enable_mem_pattern = False
    return native


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn ONNX Runtime's errors into MemoryError and InferenceError."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if "bad_alloc" in text or "Failed to allocate" in text or "out of memory" in text:
            raise MemoryError(text) from error
        raise InferenceError(f"ONNX Runtime failed: {engine_message(error)}") from error


def _tensors(arguments: Sequence[Any]) -> tuple[TensorSpec, ...]:
    """Describe inputs or outputs as the manifest does."""
    return tuple(
        TensorSpec(
            argument.name,
            # "tensor(float)"; other kinds of values are not written in this way
            _DTYPES.get(argument.type, argument.type),
            # None and empty names stand for axes without a name
            tuple(side if isinstance(side, int) else side or "?" for side in argument.shape),
        )
        for argument in arguments
    )


def import_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises BackendUnavailableError where it is not installed, or does not start.
    """
    # From 1.29 on it reports names and hashes of the graphs it loads over the network unless it is
    # told not to before its import; nothing is sent from here, and whoever wants that can say 0
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "onnxruntime is not installed: pip install 'samrefine-rt[cpu]' for CPUs or "
            "'samrefine-rt[gpu]' for NVIDIA GPUs"
        ) from error
    except (ImportError, AttributeError) as error:  # of a library, or built for another NumPy
        raise BackendUnavailableError(
            f"onnxruntime is installed, but does not start ({message_of(error)}): "
            "pip install -U onnxruntime numpy",
            is_broken=True,
        ) from error
    return onnxruntime


def _written_in(graph: Graph, precision: str) -> Path:
    """Return the file of a graph in a precision. Raises BackendUnavailableError."""
    if precision == FP32:
        return graph.path
    if precision not in graph.variants:
        raise BackendUnavailableError(
            f"ONNX Runtime runs graphs as they are written, and the bundle has none in "
            f"{precision}: export it with --precision {precision}"
        )
    return graph.variants[precision].path


def _check_offered(provider: str, offered: list[str]) -> None:
    if provider in offered:
        return
    # Both are the package onnxruntime: of two, the one installed last has overwritten the other
    if {"onnxruntime", "onnxruntime-gpu"} <= installed_builds():
        raise BackendUnavailableError(
            f"onnxruntime and onnxruntime-gpu are installed over each other, without {provider}: "
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'samrefine-rt[gpu]'",
            is_broken=True,
        )
    raise BackendUnavailableError(
        f"this onnxruntime has no {provider} (it has {', '.join(offered)}); "
        "for CUDA: pip uninstall onnxruntime, then pip install 'samrefine-rt[gpu]'"
    )


def installed_builds() -> set[str]:
    """Return the names of the distributions that bring an onnxruntime, such as onnxruntime-gpu."""
    names = (each.metadata["Name"] or "" for each in distributions())
    return {name.lower() for name in names if name.lower().startswith("onnxruntime")}


def _check_started(provider: str, active: list[str]) -> None:
    """Raise where ONNX Runtime has silently gone on with the CPU, as without CUDA's libraries."""
    if provider not in active:
        raise BackendUnavailableError(
            f"ONNX Runtime offers {provider} but could not start it; CUDA or cuDNN may be missing",
            is_broken=True,
        )
