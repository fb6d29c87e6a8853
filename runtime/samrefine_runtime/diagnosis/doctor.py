"""What this machine can run, and why it cannot run the rest."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import BACKENDS, SessionOptions
from samrefine_runtime.backends.ort import import_onnxruntime, installed_builds
from samrefine_runtime.backends.session import PRECISIONS
from samrefine_runtime.bundle import Bundle, TensorSpec
from samrefine_runtime.diagnosis.gauges import nvidia_smi
from samrefine_runtime.errors import BackendError, BackendUnavailableError, message_of

_JETPACK = Path("/etc/nv_tegra_release")
"""On Jetson boards the first line names the release of their Linux, such as R36 and revision 4."""

_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Features of CPUs that the engines' kernels are chosen by: x86's, then ARM's."""

_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "openvino", "tensorrt", "torch", "onnx")

_CUDA_MAJORS = (13, 12, 11)

_NO_DLA = "libnvdla_compiler"
"""JetPack 6 installs TensorRT without this library, and its Python package does not load then."""


@dataclass(frozen=True)
class BackendState:
    """Whether a backend starts here."""

    name: str
    precisions: tuple[str, ...]
    """Those it starts in; none where it does not start."""
    reasons: Mapping[str, str]
    """Why it does not start, by precision."""


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found."""

    machine: Mapping[str, str]
    """One line for each thing, by name; things that are not there are left out."""
    packages: Mapping[str, str]
    """Versions of installed packages."""
    backends: tuple[BackendState, ...]
    """All of them, as "auto" prefers them."""
    advice: tuple[str, ...]
    """What is wrong with this installation, one line each."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return asdict(self)


def doctor() -> Diagnosis:
    """Look at this machine, and start every backend on a small graph in every precision.

    Nothing that is missing is an error.
    """
    found = {name: look() for name, look in _LOOKS.items()}
    return Diagnosis(
        machine={name: value for name, value in found.items() if value},
        packages=_packages(),
        backends=tuple(map(_state, BACKENDS)),
        advice=tuple(filter(None, (_builds_advice(), _tensorrt_advice()))),
    )


def _state(name: str) -> BackendState:
    """Open and run the smallest graph of the embedded bundle."""
    graph = Bundle.load("demo").graph("everything_image")
    started, reasons = [], {}
    for precision in PRECISIONS:
        try:
            session = backends.open(graph, SessionOptions(backend=name, precision=precision))
            session.run(_zeros(session.inputs))
            started.append(precision)
        except (BackendError, MemoryError) as error:
            reasons[precision] = message_of(error)
    return BackendState(name, tuple(started), reasons)


def _zeros(tensors: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    # The graph has no axis of any length
    return {each.name: np.zeros(list(map(int, each.shape)), each.dtype) for each in tensors}


def _packages() -> dict[str, str]:
    found = {}
    for name in sorted({*_PACKAGES, *installed_builds()}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    names = _cpu_lines("model name") or _cpu_lines("Model")
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} cores"


def _cpu_features() -> str:
    """Return the features that matter; ARM's kernel calls them Features, x86's flags."""
    lines = _cpu_lines("flags") or _cpu_lines("Features")
    known = lines[0].split() if lines else []
    return " ".join(name for name in _FEATURES if name in known)


def _cpu_lines(field: str, source: Path = Path("/proc/cpuinfo")) -> list[str]:
    pairs = [line.partition(":") for line in _text(source).splitlines()]
    return [value.strip() for name, _, value in pairs if name.strip() == field]


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"


def _gpus() -> str:
    names = ("name", "memory.total", "compute_cap", "driver_version")
    return "; ".join(
        f"{name}, {memory} MB, compute capability {capability}, driver {driver}"
        for name, memory, capability, driver in nvidia_smi(*names)
    )


def _providers() -> str:
    try:
        return ", ".join(import_onnxruntime().get_available_providers())
    except BackendUnavailableError:
        return ""


def _cuda() -> str:
    """Return the version of the CUDA runtime that the loader finds, such as 12.6."""
    for major in _CUDA_MAJORS:
        try:
            library = ctypes.CDLL(f"libcudart.so.{major}")
        except OSError:
            continue
        number = ctypes.c_int()
        library.cudaRuntimeGetVersion(ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"
    return ""


def _jetpack() -> str:
    return next(iter(_text(_JETPACK).splitlines()), "").lstrip("# ")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


_LOOKS: Mapping[str, Callable[[], str]] = {
    "python": platform.python_version,
    "system": lambda: f"{platform.system()} {platform.release()}, {platform.machine()}",
    "cpu": _cpu,
    "cpu features": _cpu_features,
    "memory": _memory,
    "GPU": _gpus,
    "CUDA runtime": _cuda,
    "JetPack": _jetpack,
    "ONNX Runtime providers": _providers,
}


def _builds_advice() -> str:
    """Say that two builds of ONNX Runtime are installed over each other."""
    builds = installed_builds()
    if len(builds) < 2:
        return ""
    names = " ".join(sorted(builds))
    return (
        f"{names.replace(' ', ' and ')} are installed over each other, and the last one wins: "
        f"pip uninstall {names}, then install one"
    )


def _tensorrt_advice() -> str:
    """Say why an installed TensorRT does not load."""
    try:
        importlib.import_module("tensorrt")
    except ImportError as error:
        if _NO_DLA in str(error):
            return (
                f"TensorRT does not load without {_NO_DLA}.so: "
                "sudo apt-get install nvidia-l4t-dla-compiler"
            )
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            return ""
        return f"TensorRT is installed, but does not load: {message_of(error)}"
    return ""
