"""Compiling C against the ONNX Runtime that Python runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "runtime" / "c"
LIBRARY = [SOURCES / "samrefine.c"]
CHECK = [*LIBRARY, SOURCES / "example_image.c", Path(__file__).with_name("check.c")]
EXAMPLE = [*LIBRARY, SOURCES / "example.c", SOURCES / "example_image.c"]

STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def onnxruntime_root(folder: Path) -> Path:
    """Lay the shared library inside the wheel out as an installation; skip where it has none."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no shared library in its wheel")
    (folder / "lib").mkdir(parents=True)
    # By this name programs are linked, by that one they are loaded
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(found[0])
    return folder


def require(program: str) -> str:
    """Find a program; skip where it is missing."""
    return shutil.which(program) or pytest.skip(f"{program} is not installed")


def compiled(
    root: Path, sources: Sequence[Path], out: Path, *flags: str, compiler: str = "gcc"
) -> Path:
    """Compile a program, warnings being errors; skip where there is no compiler."""
    library = [
        f"-L{root / 'lib'}",
        f"-Wl,-rpath,{root / 'lib'}",
        "-lonnxruntime",
        "-lm",
        "-pthread",
    ]
    finished = started(
        *(require(compiler), *STRICT, "-g", "-O1", *flags, f"-I{SOURCES}", *sources),
        *("-o", out, *library),
    )
    assert finished.returncode == 0, finished.stderr
    return out


def started(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **environment},
    )


def said(*command: object, **environment: str) -> list[str]:
    """Run a program that must succeed; the lines it prints."""
    finished = started(*command, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()
