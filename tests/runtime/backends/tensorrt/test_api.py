"""Every name that is used of TensorRT exists in the real bindings, the oldest and the newest.

The bindings are NVIDIA's wheels, which hold no TensorRT: empty libraries stand for it, so that they
can be imported. Nothing is built or run.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.backends.tensorrt import cuda, native

SOURCE = Path(native.__file__)

VERSIONS = ("10.3.0", "11.4.0.106")

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timing": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
}
"""Class of the values of each variable in that file."""

OWN = {"_DTYPES", "_log", "addresses", "ctypes", "dict", "found", "logging", "message", "modes"}
OWN |= {"monitor", "native", "path", "self", "shape", "shapes", "tensor", "text", "version"}
"""Variables that hold nothing of TensorRT."""

ENTRY_POINTS = [
    *(f"create{name}_INTERNAL" for name in ("InferBuilder", "InferRuntime", "InferRefitter")),
    *(f"createNvOnnxParser{name}_INTERNAL" for name in ("", "Refitter")),
    *(f"getInferLib{name}Version" for name in ("", "Major", "Minor", "Patch")),
    *("getPluginRegistry", "getBuilderPluginRegistry", "getNvOnnxParserVersion"),
    *("getLogger", "initLibNvInferPlugins"),
]
"""What the bindings look for in the libraries."""

BUILD = 26
"""What the stand-in's getInferLibBuildVersion returns."""


def used_names() -> set[str]:
    """Dotted names below the module that the source uses, such as "ICudaEngine.get_tensor_name"."""
    found = {f"DataType.{name}" for name in native._DTYPES}
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Attribute):
            base, path = root(node)
            if base == "trt":
                found.add(path)
            elif base in CLASSES:
                found.add(f"{CLASSES[base]}.{path.split('.')[0]}")
            else:
                assert base in OWN, f"{base}.{path} is of which class?"
    return found


def root(node: ast.expr) -> tuple[str, str]:
    """Name of the variable that a chain of attributes begins with, and the chain."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.insert(0, node.attr)
        node = node.value
    # Attributes of what a call returns: the name of a dtype, methods of texts
    return (node.id if isinstance(node, ast.Name) else "text"), ".".join(path)


CHECK = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
missing = []
for name in json.loads(sys.argv[2]):
    thing = trt
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        missing.append(name)
from samrefine_runtime.backends.tensorrt import native
found = native.load()
found.logger.log(trt.ILogger.ERROR, "an\\nerror")
found.logger.log(trt.ILogger.INFO, "other")
seen = []
monitor = native._make_monitor(trt, lambda done, total: seen.append([done, total]))
monitor.phase_start("Building", None, 3)
monitor.phase_start("Inner", "Building", 5)
goes_on = [monitor.step_complete("Inner", 1), monitor.step_complete("Building", 0)]
print(json.dumps({
    "missing": missing, "version": found.version, "seen": seen, "goes_on": goes_on,
    "errors": list(found.logger.errors), "is_logger": isinstance(found.logger, trt.ILogger),
    "is_monitor": isinstance(monitor, trt.IProgressMonitor),
    "flag": 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
}))
"""


@pytest.fixture(scope="module", params=VERSIONS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bindings of a version, and libraries that stand for TensorRT's."""
    folder = tmp_path_factory.mktemp("bindings")
    unpack_wheel(request.param, folder)
    compile_libraries(request.param.split(".")[0], folder)
    return folder


def unpack_wheel(version: str, folder: Path) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip = shutil.which("pip") or pytest.skip("needs pip")
    arguments = ["--quiet", "--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=10"]
    arguments += [f"--python-version={python}", "--implementation=cp", f"--dest={folder}"]
    arguments += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28, 31)]
    done = subprocess.run(
        [pip, "download", *arguments, f"tensorrt-cu12-bindings=={version}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"no bindings {version} for Python {python}: {done.stderr.strip()[-200:]}")
    zipfile.ZipFile(wheels[0]).extractall(folder)


def compile_libraries(major: str, folder: Path) -> None:
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    functions = [f"void *{name}(void) {{ return 0; }}" for name in ENTRY_POINTS]
    functions.append(f"int getInferLibBuildVersion(void) {{ return {BUILD}; }}")
    (folder / "empty.c").write_text("\n".join(functions))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.{major}"
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", library, "empty.c"],
            check=True,
            cwd=folder,
        )


def test_what_is_used_is_found_in_the_source() -> None:
    """A walk that finds nothing would pass every comparison."""
    names = used_names()
    assert {"Builder", "OnnxParser", "Runtime", "ILogger.ERROR", "DataType.BF16"} <= names
    assert {"IExecutionContext.execute_async_v3", "TensorIOMode.INPUT"} <= names
    assert {"NetworkDefinitionCreationFlag.STRONGLY_TYPED", "ParserError.desc"} <= names
    assert len(names) > 50


def test_no_other_file_sees_tensorrt() -> None:
    runtime = SOURCE.parents[2]
    users = [p for p in runtime.rglob("*.py") if "import tensorrt as" in p.read_text()]
    assert users == [SOURCE]


def check(bindings: Path, names: set[str]) -> dict[str, Any]:
    """What a process of its own finds in the bindings, and how our classes do on theirs."""
    paths = [str(bindings), str(SOURCE.parents[3])]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(paths), json.dumps(sorted(names))],
        env={**os.environ, "LD_LIBRARY_PATH": str(bindings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_bindings_have_every_name(bindings: Path, request: pytest.FixtureRequest) -> None:
    version = request.node.callspec.params["bindings"]
    found = check(bindings, used_names())
    assert found["missing"] == []
    # The library's build number completes the version
    assert found["version"] == ".".join([*version.split(".")[:3], str(BUILD)])
    assert found["is_logger"] and found["errors"] == ["an error"]
    assert found["is_monitor"] and found["goes_on"] == [True, True]
    assert found["seen"] == [[1, 3]]
    # The same name has another value where there is no other kind of network any more
    assert found["flag"] == (2 if version.startswith("10.") else 1)


def test_names_that_are_gone_are_noticed(bindings: Path) -> None:
    """The comparison itself: names of TensorRT 8 alone."""
    gone = {"BuilderFlag.STRICT_TYPES", "ICudaEngine.num_bindings"}
    assert set(check(bindings, gone | {"Builder"})["missing"]) == gone


def test_the_real_cuda_library_has_every_function() -> None:
    """Where a CUDA toolkit is installed; a device is not needed."""
    import ctypes

    for name in cuda._places():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        assert all(hasattr(library, each) for each in (*cuda._SIGNATURES, "cudaGetErrorString"))
        return
    pytest.skip("needs libcudart")
