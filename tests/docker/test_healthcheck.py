"""`docker/healthcheck.py`."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import numpy as np
import pytest

from tests.dockerfiles import ROOT

SCRIPT = ROOT / "docker" / "healthcheck.py"


def check(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch, "cpu", "json")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none"], "backend is 'none', expected one of"),
        (["cpu", "no_such_module"], "No module named 'no_such_module'"),
    ],
)
def test_what_does_not_run(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match=f"^unhealthy: {reason}") as raised:
        check(monkeypatch, *arguments)
    assert len(str(raised.value).splitlines()) == 1


def test_wrong_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that run and return what means nothing, as a wrong precision does."""

    def nothing_refined(label: Any, masks: Any, settings: Any) -> tuple[Any, Any]:
        return label, np.zeros(len(masks), np.uint8)

    monkeypatch.setattr("samrefine_runtime.pipeline.refine_and_choose", nothing_refined)
    with pytest.raises(SystemExit, match=r"^unhealthy: scene-4 has 0\.548 mIoU, expected at least"):
        check(monkeypatch, "cpu")
