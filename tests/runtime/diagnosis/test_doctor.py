"""What `doctor` finds, here and on machines that are described to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from samrefine_runtime.backends import BACKENDS
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.diagnosis import doctor as module
from samrefine_runtime.diagnosis.doctor import doctor


def test_this_machine() -> None:
    found = doctor()
    assert found.machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.machine["cpu"] and found.machine["memory"].endswith(" GB")
    assert "CPUExecutionProvider" in found.machine["ONNX Runtime providers"]
    assert "numpy" in found.packages
    assert [state.name for state in found.backends] == list(BACKENDS)
    states = {state.name: state for state in found.backends}
    assert states["cpu"].precisions == ("fp32",)
    assert "no bf16 on CPUs" in states["cpu"].reasons["bf16"]
    assert json.loads(json.dumps(found.to_json()))["backends"][0]["name"] == next(iter(BACKENDS))


def test_a_backend_that_opens_but_does_not_run() -> None:
    def opener(graph: Any, options: Any) -> Any:
        session: Any = open_cpu(graph, options)
        session.run = fail
        return session

    def fail(feeds: Any) -> None:
        raise MemoryError

    BACKENDS.add("full", opener)
    try:
        state = next(each for each in doctor().backends if each.name == "full")
    finally:
        BACKENDS.remove("full")
    assert state.precisions == () and state.reasons["fp32"] == "out of memory"


def test_two_builds_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = {"onnxruntime", "onnxruntime-gpu"}
    monkeypatch.setattr(module, "installed_builds", lambda: builds)
    (advice,) = doctor().advice
    assert advice.startswith("onnxruntime and onnxruntime-gpu are installed over each other")
    assert "pip uninstall onnxruntime onnxruntime-gpu, then install one" in advice


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"), None),
        (
            ImportError("libnvdla_compiler.so: cannot open shared object file"),
            "sudo apt-get install nvidia-l4t-dla-compiler",
        ),
        (ImportError("libnvinfer.so.10: no\nsuch file"), r"does not load: libnvinfer.so.10: no\n"),
    ],
)
def test_tensorrt_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, advice: str | None
) -> None:
    """JetPack 6 installs its Python package without a library that it needs."""

    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(module, "importlib", SimpleNamespace(import_module=refuse))
    found = [line for line in doctor().advice if "TensorRT" in line]
    assert len(found) == (advice is not None)
    assert advice is None or advice in found[0]


def test_a_jetson_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\nmore\n")
    monkeypatch.setattr(module, "_JETPACK", release)
    assert doctor().machine["JetPack"].startswith("R36 (release), REVISION: 4.3")


def test_an_arm_cpu(tmp_path: Path) -> None:
    """Its kernel has no name of the model, and other words for features."""
    source = tmp_path / "cpuinfo"
    source.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd42\n")
    assert module._cpu_lines("Features", source) == ["fp asimd asimddp i8mm"]
    assert module._cpu_lines("flags", source) == []


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = doctor()
    assert "ONNX Runtime providers" not in found.machine
    state = next(each for each in found.backends if each.name == "cpu")
    assert not state.precisions and "is not installed" in state.reasons["fp32"]
