"""What `make arm64` says; the emulation itself takes minutes and is not run here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.arm64 import emulation
from tests.arm64.emulation import Demo, EmulationError, call, compare, unpack

LABELS = {"a.png": b"a", "b.png": b"b"}


def demo(labels: dict[str, bytes]) -> Demo:
    return Demo(labels, {"masks": 61, "refined_miou": 0.681}, "1.32.0", 5.0)


def test_equal_labels() -> None:
    said = compare(demo(LABELS), demo(dict(LABELS)))
    assert said.startswith("2 of 2 label files are equal, byte by byte\n")
    assert "neoverse-n1  onnxruntime 1.32.0  61 masks  68.1 mIoU" in said


@pytest.mark.parametrize(
    ("emulated", "message"),
    [
        ({**LABELS, "b.png": b"c"}, "1 of 2 labels differ between this CPU and ARM64: b.png"),
        ({"a.png": b"a"}, "1 of 2 labels differ between this CPU and ARM64: b.png"),
        ({**LABELS, "c.png": b"c"}, "1 of 3 labels differ between this CPU and ARM64: c.png"),
    ],
)
def test_other_labels(emulated: dict[str, bytes], message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        compare(demo(LABELS), demo(emulated))


def test_no_labels_are_not_equal_labels() -> None:
    with pytest.raises(EmulationError, match="0 of 0 labels"):
        compare(demo({}), demo({}))


def test_the_last_line_of_a_failed_command_is_passed_on() -> None:
    code = "import sys; sys.exit('first\\nlast')"
    with pytest.raises(EmulationError, match=r"^it failed: last$"):
        call([sys.executable, "-c", code], "it failed")


def test_nothing_is_unpacked_twice(tmp_path: Path) -> None:
    assert unpack(tmp_path, "arm64", "no-such-package") == tmp_path


def test_without_debian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and exit code 1."""
    monkeypatch.setattr(emulation, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(emulation, "build_wheel", lambda: Path("a.whl"))
    monkeypatch.setattr(emulation, "native_python", lambda wheel: [sys.executable])
    monkeypatch.setattr(emulation, "run_demo", lambda *arguments: demo(LABELS))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as raised:
        emulation.main()
    assert raised.value.code == "make arm64: this is no Debian: dpkg is missing"
    with pytest.raises(EmulationError, match="apt-get is missing"):
        unpack(tmp_path / "prefix", "arm64", "python3")
    assert capsys.readouterr().out == ""
