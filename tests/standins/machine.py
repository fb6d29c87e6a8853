"""A machine with a GPU and TensorRT, as far as this package can tell: both are stand-ins."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from samrefine_runtime.backends import tensorrt
from samrefine_runtime.backends.tensorrt import cuda, native
from tests.standins.tensorrt_standin import Behaviour, make_module

SOURCE = Path(__file__).with_name("cudart.c")


@dataclass
class Machine:
    """What a test changes of the machine, and sees of it."""

    behaviour: Behaviour
    library: ctypes.CDLL
    secret: Path

    def set(self, name: str, value: int) -> None:
        """Set `devices`, `status` or `limit` of the stand-in for CUDA."""
        kind = ctypes.c_size_t if name == "limit" else ctypes.c_int
        kind.in_dll(self.library, f"standin_{name}").value = value

    def get(self, name: str) -> int:
        """Return such a value, or `used` bytes, or `copies` between host and device."""
        kind = ctypes.c_size_t if name in ("limit", "used") else ctypes.c_int
        return int(kind.in_dll(self.library, f"standin_{name}").value)

    @staticmethod
    def forget() -> None:
        """Let the next session look for the device and TensorRT again."""
        for found in (cuda.open_cuda, native.load, tensorrt.open_device):
            found.cache_clear()


def compile_cudart(folder: Path) -> Path:
    """Compile the stand-in for CUDA's runtime library; skip without a compiler."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    path = folder / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, SOURCE], check=True)
    return path


@contextmanager
def machine(cudart: Path, folder: Path) -> Iterator[Machine]:
    """Let this package find the stand-ins.

    Args:
        cudart: as `compile_cudart` made it.
        folder: empty, of the test.
    """
    # A copy: the linker would give all tests one library with one state
    path = shutil.copy(cudart, folder / "libcudart.so")
    found = Machine(Behaviour(), ctypes.CDLL(str(path)), folder / "engine.key")
    found.behaviour.has_device = lambda: found.get("devices") > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "_places", lambda: iter([str(path)]))
        patch.setenv("SAMREFINE_ENGINE_KEY", str(found.secret))
        patch.setitem(sys.modules, "tensorrt", make_module(found.behaviour))
        Machine.forget()
        yield found
    Machine.forget()
