"""Runs a graph: numpy in, numpy out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import BackendError

_log = logging.getLogger(__name__)

Backend = Literal["auto", "cpu", "cuda"]
BACKENDS: tuple[str, ...] = get_args(Backend)

_SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""its kernel is slower on CPUs than the Add and LayerNormalization it replaces"""

_SHRINK_ARENA = ("memory.enable_memory_arena_shrinkage", "cpu:0")

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session(Protocol):
    """A graph ready to run."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name: arrays, or what a session keeps."""

    def keep(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Outputs by name that stay where graphs run, for other sessions of the same backend."""


class OrtSession:
    """A graph in ONNX Runtime."""

    def __init__(
        self,
        path: Path,
        *,
        backend: Backend = "auto",
        threads: int | None = None,
        frees_memory: bool = False,
    ):
        """Load a graph.

        Args:
            path: the .onnx file.
            backend: "cuda" or "cpu"; "auto" takes CUDA where ONNX Runtime offers it.
            threads: CPU threads, None for all cores.
            frees_memory: give a run's memory on the CPU back after it; for graphs that run once
                a photo, whose memory would lie idle while others run.

        Raises:
            BackendError: onnxruntime is missing, does not offer the backend or cannot start it, or
                rejects the graph.
        """
        ort = _import_onnxruntime()
        providers = _providers(ort.get_available_providers(), backend)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # plans for fixed shapes; here it only holds memory
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=providers, disabled_optimizers=_SLOW_FUSIONS
            )
        except Exception as error:
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        _check_started(providers[0], self._session.get_providers(), backend)
        self._device = "cuda" if _PROVIDERS["cuda"] in self._session.get_providers() else "cpu"
        self._run_options = ort.RunOptions()
        if frees_memory:
            self._run_options.add_run_config_entry(*_SHRINK_ARENA)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs by name: arrays, or what `keep` gave.

        Raises:
            MemoryError: the batch does not fit into memory.
            BackendError: any other failure of the run.
        """
        with _clear_errors():
            values = self._session.run(None, dict(feeds), self._run_options)
        return dict(zip(self._outputs, map(np.asarray, values), strict=True))

    def keep(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Outputs by name that stay on the device, to be fed to sessions of the same backend.

        Raises:
            MemoryError, BackendError: as `run`.
        """
        with _clear_errors():
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for name in self._outputs:
                binding.bind_output(name, self._device)
            self._session.run_with_iobinding(binding, self._run_options)
            return dict(zip(self._outputs, binding.get_outputs(), strict=True))


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = str(error)
        if "bad_alloc" in text or "Failed to allocate" in text or "out of memory" in text:
            raise MemoryError(text) from error
        raise BackendError(f"ONNX Runtime failed: {text}") from error


def _check_started(wanted: str, active: list[str], backend: Backend) -> None:
    """ONNX Runtime goes on with the CPU, silently, where CUDA's libraries are missing."""
    if wanted in active:
        return
    message = f"ONNX Runtime offers {wanted} but could not start it; CUDA or cuDNN may be missing"
    if backend != "auto":
        raise BackendError(message)
    _log.warning("%s: running on the CPU", message)


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(
            "onnxruntime is not installed: pip install 'samrefine-rt[cpu]' for CPUs or "
            "'samrefine-rt[gpu]' for NVIDIA GPUs"
        ) from error
    return onnxruntime


def _providers(available: list[str], backend: Backend) -> list[str]:
    if backend == "auto":
        return [name for name in (_PROVIDERS["cuda"], _PROVIDERS["cpu"]) if name in available]
    if backend not in _PROVIDERS:
        raise BackendError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
    if _PROVIDERS[backend] not in available:
        raise BackendError(
            f"this onnxruntime has no {_PROVIDERS[backend]} (it has {', '.join(available)}); "
            "for CUDA: pip uninstall onnxruntime, then pip install 'samrefine-rt[gpu]'"
        )
    return [_PROVIDERS[backend], *(["CPUExecutionProvider"] if backend == "cuda" else [])]
