"""The library as programs get it: configured, installed and found, in C and in C++."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.c.programs import LIBRARY, SOURCES, STRICT, compiled, require, said

PROGRAM = """\
cmake_minimum_required(VERSION 3.16)
project(program LANGUAGES CXX)
find_package(samrefine 0.1 REQUIRED)
add_executable(program {sources}/example.cpp)
target_link_libraries(program PRIVATE samrefine::samrefine)
"""


@pytest.fixture(scope="module", params=["static", "shared"])
def installed(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Build and install with CMake, and run both examples where they were built."""
    cmake, folder = require("cmake"), tmp_path_factory.mktemp("build")
    shared = "ON" if request.param == "shared" else "OFF"
    said(
        *(cmake, "-S", SOURCES, "-B", folder / "build", f"-DONNXRUNTIME_ROOT={root}"),
        *(f"-DBUILD_SHARED_LIBS={shared}", f"-DCMAKE_INSTALL_PREFIX={folder / 'installed'}"),
        "-DCMAKE_INSTALL_LIBDIR=lib",
    )
    said(cmake, "--build", folder / "build")
    said(cmake, "--install", folder / "build")
    return folder


def test_the_examples(installed: Path, graphs: Path, scene: Path) -> None:
    out = installed / "label.pgm"
    assert said(installed / "build" / "example", graphs / "label.onnx", scene, out)
    assert out.read_bytes().startswith(b"P5\n")
    program = installed / "build" / "example_cpp"
    assert said(program, graphs / "label.onnx") == ["64 x 48, 0 masks"]


def test_cmake_finds_it(installed: Path, root: Path, graphs: Path) -> None:
    folder = installed / "program"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROGRAM.format(sources=SOURCES))
    said(
        "cmake", "-S", folder, "-B", folder / "b", f"-DCMAKE_PREFIX_PATH={installed / 'installed'}"
    )
    said("cmake", "--build", folder / "b")
    paths = f"{installed / 'installed' / 'lib'}:{root / 'lib'}"
    assert said(folder / "b" / "program", graphs / "label.onnx", LD_LIBRARY_PATH=paths)


def test_pkg_config_finds_it(installed: Path, root: Path, graphs: Path) -> None:
    lib = installed / "installed" / "lib"
    pkg_config = (require("pkg-config"), "--cflags", "--libs", "samrefine")
    (line,) = said(*pkg_config, PKG_CONFIG_PATH=str(lib / "pkgconfig"))
    program = installed / "pkg"
    said(
        require("g++"),
        "-std=c++11",
        *STRICT[1:],
        SOURCES / "example.cpp",
        "-o",
        program,
        *line.split(),
    )
    paths = f"{lib}:{root / 'lib'}"
    assert said(program, graphs / "label.onnx", LD_LIBRARY_PATH=paths)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(root: Path, tmp_path: Path, compiler: str) -> None:
    flags = ("-shared", "-fPIC", "-O2")
    compiled(root, LIBRARY, tmp_path / "lib.so", *flags, compiler=compiler)


def test_nothing_else_is_exported(root: Path, tmp_path: Path) -> None:
    library = compiled(root, LIBRARY, tmp_path / "lib.so", "-shared", "-fPIC", "-O2")
    lines = said(require("nm"), "-D", "--defined-only", library)
    assert {line.split()[-1].split("_")[0] for line in lines} == {"samrefine"}


def test_there_is_no_global_state(root: Path, tmp_path: Path) -> None:
    compiled(root, LIBRARY, tmp_path / "library.o", "-c", "-fno-pic", "-O2")
    lines = said(require("nm"), tmp_path / "library.o")
    assert not [line for line in lines if line.split()[-2] in "bBcCdD"]


def test_slots_are_where_their_gaps_say() -> None:
    """Gaps are named by their index: one entry too many would call other functions."""
    table = (
        (SOURCES / "ort_slots.h")
        .read_text()
        .split("typedef struct OrtApi {")[1]
        .split("} OrtApi;")[0]
    )
    index = 0
    for declaration in table.split(";")[:-1]:
        gap = re.search(r"OrtUnused from_(\d+)\[(\d+)\]", declaration)
        assert gap is None or int(gap[1]) == index
        index += int(gap[2]) if gap else 1
    # ReleaseCUDAProviderOptions, the last that is used, is the function 208
    assert index == 209
