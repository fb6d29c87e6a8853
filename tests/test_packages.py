"""What a wheel and a source distribution hold, and that an index takes them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import samrefine_rt
from tests.markdown import ROOT

PACKAGES = {
    "samrefine_rt": ROOT / "samrefine_rt",
    "samrefine_runtime": ROOT / "runtime" / "samrefine_runtime",
    "samrefine_export": ROOT / "export" / "samrefine_export",
}
STEM = f"samrefine_rt-{samrefine_rt.__version__}"
LEFT_OUT = {"tests/data/demo_sam.pt"}
"""Files of the tests that are not in the source distribution; a test skips without them."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages, built as an installer builds them."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    sdist = pytest.importorskip("hatchling.builders.sdist").SdistBuilder
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    folder = tmp_path_factory.mktemp("dist")
    for builder in (sdist, wheel):
        assert list(builder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> dict[str, bytes]:
    """Content of the wheel by name."""
    with zipfile.ZipFile(dist / f"{STEM}-py3-none-any.whl") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(dist / f"{STEM}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / STEM


def sources(folder: Path) -> set[str]:
    """Relative names of a folder's files, without what Python and tools leave there."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)) for path in files if "node_modules" not in path.parts}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: dict[str, bytes]) -> None:
    names = {name for name in wheel if ".dist-info/" not in name}
    assert names == {
        f"{package}/{name}" for package, folder in PACKAGES.items() for name in sources(folder)
    }
    assert {f"{package}/py.typed" for package in PACKAGES} < names
    assert {
        "samrefine_runtime/demo_bundle/decoder.data",
        "samrefine_rt/demo_images/scene-1.jpg",
    } < names
    assert f"{STEM}.dist-info/licenses/LICENSE" in wheel
    assert b"samrefine = samrefine_rt.__main__:run" in wheel[f"{STEM}.dist-info/entry_points.txt"]


def test_what_the_wheel_says_of_itself(wheel: dict[str, bytes]) -> None:
    about = message_from_bytes(wheel[f"{STEM}.dist-info/METADATA"])
    extras = set(about.get_all("Provides-Extra", []))
    assert extras == {"cpu", "gpu", "tensorrt", "openvino", "serve", "export", "dev"}
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.partition(">")[0] for line in needed}
    assert names == {"click", "numpy", "opencv-python-headless", "pillow"}
    assert about["Requires-Python"] == ">=3.10" and about["License-Expression"] == "Apache-2.0"
    versions = [line for line in about.get_all("Classifier", []) if ":: 3." in line]
    assert [line.rpartition(".")[2] for line in versions] == ["10", "11", "12", "13"]


def test_the_source_distribution_holds_what_its_tests_need(sdist: Path) -> None:
    for folder in ("tests", "benchmarks", "docs", "docker", "examples"):
        expected = {f"{folder}/{name}" for name in sources(ROOT / folder)} - LEFT_OUT
        assert {f"{folder}/{name}" for name in sources(sdist / folder)} == expected
    tops = {path.name for path in sdist.iterdir()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "lowest.txt"} <= tops
    assert not tops & {"shared", "dist", ".venv", ".git"}


def test_packages_are_small(dist: Path) -> None:
    """The embedded models are 6.8 MB of either."""
    assert (dist / f"{STEM}-py3-none-any.whl").stat().st_size < 7_500_000
    assert (dist / f"{STEM}.tar.gz").stat().st_size < 9_000_000


def test_tests_run_in_the_source_distribution(sdist: Path) -> None:
    """Some that read data and images; all are run where a change lands."""
    tests = ["tests/runtime/test_labels.py", "tests/runtime/test_pipeline.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=sdist,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout or "[100%]" in done.stdout


def test_an_index_takes_the_packages(dist: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed")
    files = sorted(str(path) for path in dist.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
