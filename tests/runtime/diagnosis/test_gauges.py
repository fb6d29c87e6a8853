"""What machines say of themselves, read from files and a program as they show it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samrefine_runtime.diagnosis.gauges import (
    GAUGES,
    Watch,
    board_power_watts,
    nvidia_smi,
    peak_memory_mb,
)


def monitor(folder: Path, name: str, **files: str) -> None:
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    for file, content in files.items():
        (folder / file).write_text(content + "\n")


def test_power_of_a_jetson_board(tmp_path: Path) -> None:
    """An Orin Nano's: volts and amperes of three rails, the first of which feeds the others."""
    monitor(tmp_path / "hwmon0", "tmp102", in1_label="VDD_IN", in1_input="1", curr1_input="1")
    monitor(
        tmp_path / "hwmon1",
        "ina3221",
        in1_label="VDD_IN",
        in1_input="5000",
        curr1_input="1200",
        in2_label="VDD_CPU_GPU_CV",
        in2_input="5000",
        curr2_input="400",
    )
    assert board_power_watts(tmp_path) == pytest.approx(6.0)


def test_machines_without_such_a_sensor(tmp_path: Path) -> None:
    assert board_power_watts(tmp_path) is None
    assert board_power_watts(tmp_path / "none") is None
    monitor(tmp_path / "hwmon0", "ina3221", in1_label="VDD_IN", in1_input="5000")
    assert board_power_watts(tmp_path) is None


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for programs first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "nvidia-smi"


def answer(smi: Path, text: str, code: int = 0) -> None:
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    smi.chmod(0o755)


def test_nvidias_tool(smi: Path) -> None:
    answer(smi, "NVIDIA H100, 81559\nNVIDIA H100, 81560")
    assert nvidia_smi("name", "memory.total") == [
        ["NVIDIA H100", "81559"],
        ["NVIDIA H100", "81560"],
    ]
    answer(smi, "123.5")
    assert GAUGES["gpu_power_watts"]() == 123.5
    answer(smi, "[N/A]")
    assert GAUGES["gpu_power_watts"]() is None


def test_nvidias_tool_without_a_driver(smi: Path) -> None:
    answer(smi, "NVIDIA-SMI has failed because it couldn't communicate with the driver", 9)
    assert nvidia_smi("name") == []
    assert GAUGES["gpu_memory_mb"]() is None


def test_readings_while_something_runs() -> None:
    values = iter(range(100))
    asked: list[str] = []

    def silent() -> None:
        asked.append("silent")

    with Watch({"rising": lambda: float(next(values)), "silent": silent}) as watch:
        pass
    # The first reading only finds out what answers
    assert watch.means()["rising"] == watch.peaks()["rising"] == 1
    assert watch.peaks().keys() == {"rising"} and asked == ["silent"]


def test_peak_memory_is_in_megabytes() -> None:
    held = bytearray(200_000_000)
    held[::4096] = bytes(len(held[::4096])).replace(b"\0", b"\1")
    assert 200 < peak_memory_mb() < 20_000
