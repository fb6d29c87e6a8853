"""Memory of the device: taken from a pool that only grows, shared by all sessions.

`cudaMalloc` and `cudaFree` wait for the device; a pool asks them once per size. Whatever a session
takes for one run is free for the next run of any session, so that all graphs together need the
memory of the largest.
"""

from __future__ import annotations

import weakref
from collections import deque
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.tensorrt.cuda import Cuda

_GRANULE = 1 << 16
"""Sizes are multiples of 64 KB, so that tensors of nearly the same size share memory."""

_MOST_WASTED = 2
"""A block is used for sizes down to this fraction of its own."""


class Block:
    """Memory that returns to its pool when nothing refers to it any more."""

    def __init__(self, address: int, size: int):
        self.address, self.size = address, size
        """Address on the device and size in bytes."""


class Pool:
    """The device's memory that sessions have asked for."""

    def __init__(self, cuda: Cuda):
        self._cuda = cuda
        self._lock = RLock()
        self._free: list[tuple[int, int]] = []
        # Python may collect a block at any moment, also inside `take`: it is only noted here
        self._returned: deque[tuple[int, int]] = deque()

    def take(self, size: int) -> Block:
        """Return memory of at least `size` bytes. Raises MemoryError."""
        wanted = max(1, -(-size // _GRANULE)) * _GRANULE
        with self._lock:
            size, address = self._reused(wanted) or (wanted, self._allocated(wanted))
        block = Block(address, size)
        # Not at the end of the process, when CUDA may be gone and its memory with it
        weakref.finalize(block, self._returned.append, (size, address)).atexit = False
        return block

    def release(self) -> None:
        """Give all memory that nobody uses back to the device."""
        with self._lock:
            self._collect()
            while self._free:
                self._cuda.free(self._free.pop()[1])

    def _collect(self) -> None:
        while self._returned:
            self._free.append(self._returned.popleft())

    def _reused(self, wanted: int) -> tuple[int, int] | None:
        """Take the smallest free memory that is large enough, but not much too large."""
        self._collect()
        fitting = [each for each in self._free if wanted <= each[0] <= _MOST_WASTED * wanted]
        if not fitting:
            return None
        self._free.remove(min(fitting))
        return min(fitting)

    def _allocated(self, size: int) -> int:
        try:
            return self._cuda.allocate(size)
        except MemoryError:
            self.release()
        try:
            return self._cuda.allocate(size)
        except MemoryError:
            raise MemoryError(
                f"{size / 1e6:.0f} MB do not fit into the GPU's memory, of which "
                f"{self._cuda.free_bytes() / 1e6:.0f} MB are free"
            ) from None


class DeviceArray:
    """An array in the device's memory, alive as long as something refers to it."""

    def __init__(self, cuda: Cuda, block: Block, dtype: str, shape: tuple[int, ...]):
        self._cuda, self._block = cuda, block
        self.dtype, self.shape = np.dtype(dtype), shape

    @property
    def address(self) -> int:
        """Address of the first element on the device."""
        return self._block.address

    def fetch(self) -> NDArray[Any]:
        """Copy the array to the host; complete after the stream is synchronized."""
        array = np.empty(self.shape, self.dtype)
        self._cuda.download(self.address, array)
        return array
