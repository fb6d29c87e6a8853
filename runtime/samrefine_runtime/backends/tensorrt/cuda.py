"""CUDA through its runtime library alone: a device, one stream, memory, copies.

About a dozen functions of libcudart whose C signatures have not changed since CUDA 11, so that no
package is tied to a CUDA version.
https://docs.nvidia.com/cuda/cuda-runtime-api
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samrefine_runtime.errors import BackendUnavailableError, InferenceError, printable

_NAMES = ("libcudart.so", *(f"libcudart.so.{major}" for major in range(14, 10, -1)))
"""Where no toolkit is installed there is only the name with the version."""

_WHEELS = ("nvidia/*/lib/libcudart.so.*",)
"""Where NVIDIA's wheels put it, below site-packages; the linker does not look there."""

_OUT_OF_MEMORY, _OLD_DRIVER, _NO_DEVICE = 2, 35, 100
"""Of `cudaError_t`."""

_DRIVER = "libcuda.so.1"
"""The driver's library; without it CUDA calls the driver too old."""

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""Of `cudaDeviceAttr`."""

_TO_DEVICE, _TO_HOST = 1, 2
"""Of `cudaMemcpyKind`."""

_PROPERTIES_BYTES = 8192
"""Room for `cudaDeviceProp` of any version, 1 KB today; its first member is the name, 256 bytes."""

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (ctypes.POINTER(ctypes.c_int),),
    "cudaDeviceGetAttribute": (ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cudaGetDeviceProperties": (_pointer, ctypes.c_int),
    "cudaMalloc": (ctypes.POINTER(_pointer), _size),
    "cudaFree": (_pointer,),
    "cudaMemcpyAsync": (_pointer, _pointer, _size, ctypes.c_int, _pointer),
    "cudaMemGetInfo": (ctypes.POINTER(_size), ctypes.POINTER(_size)),
    "cudaStreamCreate": (ctypes.POINTER(_pointer),),
    "cudaStreamSynchronize": (_pointer,),
}


class Cuda:
    """The first CUDA device that is visible, with one stream in which everything runs in order."""

    def __init__(self, library: ctypes.CDLL):
        """Take a device.

        Args:
            library: libcudart.

        Raises:
            BackendUnavailableError: there is no device, or the driver does not fit the library.
        """
        self._library = library
        for name, arguments in _SIGNATURES.items():
            getattr(library, name).argtypes = arguments
        library.cudaGetErrorString.restype = ctypes.c_char_p
        library.cudaGetErrorString.argtypes = (ctypes.c_int,)
        self._check_device()
        stream = _pointer()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        self.stream = stream.value or 0
        """The stream's handle."""

    @property
    def name(self) -> str:
        """Name of the GPU, such as "Orin"."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, 0)
        return properties.value.decode(errors="replace")

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Version of the GPU's architecture (SM), such as (8, 7)."""
        return self._attribute(_COMPUTE_MAJOR), self._attribute(_COMPUTE_MINOR)

    def free_bytes(self) -> int:
        """Return how much memory of the device is free."""
        free, total = _size(), _size()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """Return the address of new memory, aligned to 256 bytes. Raises MemoryError."""
        address = _pointer()
        # Nothing has no address, but empty tensors need one
        self._call("cudaMalloc", ctypes.byref(address), max(size, 1))
        return address.value or 0

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", address)

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Copy from the device into a contiguous array, which is complete after `synchronize`."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)

    def synchronize(self) -> None:
        """Wait until everything in the stream is done. Raises InferenceError if it failed."""
        self._call("cudaStreamSynchronize", self.stream)

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        if size:
            self._call("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), number, 0)
        return value.value

    def _check_device(self) -> None:
        """Raise BackendUnavailableError unless there is a device."""
        count = ctypes.c_int()
        status = self._library.cudaGetDeviceCount(ctypes.byref(count))
        has_none = status == _OLD_DRIVER and not _is_loadable(_DRIVER)
        if status == _NO_DEVICE or has_none or (status == 0 and count.value == 0):
            raise BackendUnavailableError("CUDA finds no NVIDIA GPU")
        if status:
            # Such as an older driver than the library needs, or one that was updated without reboot
            raise BackendUnavailableError(
                f"CUDA does not start: {self._text(status)}; see what nvidia-smi says",
                is_broken=True,
            )

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library. Raises MemoryError or InferenceError."""
        status = getattr(self._library, name)(*arguments)
        if status == _OUT_OF_MEMORY:
            raise MemoryError("the GPU is out of memory")
        if status:
            raise InferenceError(f"CUDA failed in {name}: {self._text(status)}")

    def _text(self, status: int) -> str:
        return f"{printable(self._library.cudaGetErrorString(status).decode())} ({status})"


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@cache
def open_cuda() -> Cuda:
    """Return the device that all sessions of this process share.

    Raises:
        BackendUnavailableError: CUDA is not installed, does not start, or finds no GPU.
    """
    for name in _places():
        try:
            return Cuda(ctypes.CDLL(name))
        except OSError:  # not here
            continue
    raise BackendUnavailableError(
        "CUDA is not installed: no libcudart.so is found (pip install 'samrefine-rt[tensorrt]', "
        "or run the container with --gpus all or --runtime nvidia)"
    )


def _places() -> Iterator[str]:
    """Yield what the library may be called, for the linker, and where else it may lie."""
    yield from _NAMES
    for folder in sys.path:
        for pattern in _WHEELS:
            yield from map(str, sorted(Path(folder).glob(pattern), reverse=True))
