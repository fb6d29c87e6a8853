"""The images' pip steps, run: in clean environments, and resolved for the boards' Pythons."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.dockerfiles import ENVIRONMENT, ROOT, SOURCE, copy_context, pip_steps, read_images

IMAGES = read_images()
BY_DEFAULT = "cpu"
"""The image whose step takes seconds; SAMREFINE_IMAGES=1 runs the others', which take GBs."""

UNWANTED = {"torch", "torchvision", "onnx", "onnxscript", "timm", "segment-anything"}

ARM64 = tuple(f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1))
"""Platforms of Ubuntu 22.04 (glibc 2.35), and so of 24.04, as pip names them."""

CONSTRAINTS = ROOT / "docker" / "constraints.txt"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build gets."""
    return copy_context(tmp_path_factory.mktemp("context"))


def environment(**variables: str) -> dict[str, str]:
    """This process's environment variables, without the paths to this tree's packages."""
    return {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | variables


def interpreter(version: str) -> str:
    """A Python of a version, or skips."""
    found = shutil.which(f"python{version}")
    if found is None and sys.version_info[:2] == tuple(map(int, version.split("."))):
        found = sys.executable
    if found is None:
        pytest.skip(f"there is no python{version} here")
    return found


def pins(python: str) -> dict[str, str]:
    """Versions that the constraints give for a Python, by package."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    where = {"python_version": python}
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in found
        if each.marker is None or each.marker.evaluate(where)
    }


def without_tensorrt_libraries(folder: Path) -> dict[str, str]:
    """An empty wheel where pip would fetch TensorRT's libraries: GBs, from an index of NVIDIA's."""
    name = "tensorrt_cu13_libs"
    version = pins("3.12")[name]
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    links = os.environ.get("PIP_FIND_LINKS", "")
    return {"PIP_FIND_LINKS": f"{links} {folder}".strip()}


def build(name: str, context: Path, scratch: Path) -> Path:
    """Run the steps that make an image's environment, as they are written. Returns the folder."""
    folder = scratch / "samrefine"
    python = interpreter(IMAGES[name][0].python)
    variables = environment(**without_tensorrt_libraries(scratch))
    for run in IMAGES[name][0].all("RUN"):
        if ENVIRONMENT in run.value:
            command = run.value.replace("python3 ", f"{python} ")
            command = command.replace(ENVIRONMENT, str(folder)).replace(SOURCE, str(context))
            subprocess.run(["sh", "-ec", command], check=True, env=variables, cwd=scratch)
    return folder


def installed(folder: Path) -> dict[str, str]:
    """Packages of an environment with their versions, but for pip's own."""
    pip = [folder / "bin" / "pip", "list", "--local", "--format=json"]
    rows = json.loads(subprocess.check_output(pip, env=environment()))
    return {row["name"]: row["version"] for row in rows if row["name"] not in {"pip", "setuptools"}}


def assert_pinned(packages: dict[str, str], python: str) -> None:
    """All of them, this project aside, have the versions of the constraints."""
    pinned = pins(python)
    found = {name: version for name, version in packages.items() if name != "samrefine-rt"}
    assert found == {name: pinned.get(name) for name in found}


def check_health(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the health check in an environment."""
    script = ROOT / "docker" / "healthcheck.py"
    return subprocess.run(
        [folder / "bin" / "python3", script, *arguments],
        env=environment(), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_environment(name: str, context: Path, tmp_path: Path) -> None:
    """It holds the wheel whole and what is pinned; the image's health check passes."""
    if name != BY_DEFAULT and not os.environ.get("SAMREFINE_IMAGES"):
        pytest.skip("SAMREFINE_IMAGES=1 builds the environments of all images")
    folder = build(name, context, tmp_path)
    packages = installed(folder)
    assert_whole(folder)
    if name == "export":
        assert packages.keys() >= UNWANTED
    else:
        assert_pinned(packages, IMAGES[name][0].python)
        assert not packages.keys() & UNWANTED
    assert_healthy(name, folder)


def assert_whole(folder: Path) -> None:
    """The packages are those of this tree, file by file: .dockerignore leaves out none of them."""
    (site,) = folder.glob("lib/python3.*/site-packages")
    for package in ("samrefine_rt", "runtime/samrefine_runtime", "export/samrefine_export"):
        source = ROOT / package
        there, here = (
            {path.relative_to(top) for path in top.rglob("*") if is_source(path)}
            for top in (site / source.name, source)
        )
        assert there == here


def is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def assert_healthy(name: str, folder: Path) -> None:
    """The health check passes, as far as it can here: without a GPU and TensorRT's libraries."""
    _, _, backend, *modules = IMAGES[name][-1].health_command
    if "tensorrt" in modules:
        refused = check_health(folder, backend, *modules)
        assert refused.returncode == 1
        assert re.match(r"unhealthy: (No module named 'tensorrt'|libnv\w+\.so)", refused.stderr)
        backend, modules = "cpu", []
    healthy = check_health(folder, backend, *modules)
    assert healthy.returncode == 0, healthy.stderr


@pytest.mark.parametrize("name", ["jetson6", "jetson7"])
def test_boards_find_all_wheels(name: str, context: Path, tmp_path: Path) -> None:
    """All that is pinned has wheels for the board's Python: nothing is compiled there."""
    python = IMAGES[name][-1].python
    target = shlex.split(pip_steps(IMAGES[name])[0])[-1].replace(SOURCE, str(context))
    # pip chooses files for the board, but asks markers about the Python that it runs in
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(
        "".join(f"{each}=={version}\n" for each, version in pins(python).items())
    )
    report = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
        "--target", tmp_path / "none", "--report", report, "--only-binary=:all:",
        "--python-version", python, *(f"--platform={each}" for each in ARM64),
        "-c", constraints, target,
    ]  # fmt: skip
    subprocess.run(command, check=True, env=environment(), cwd=tmp_path)
    found = json.loads(report.read_text())["install"]
    packages = {each["metadata"]["name"]: each["metadata"]["version"] for each in found}
    assert packages.keys() >= {"samrefine-rt", "numpy", "onnxruntime"}
    assert_pinned(packages, python)
    assert not packages.keys() & UNWANTED
