"""The versions that are tested as the lowest are those that the package declares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_lowest_versions_are_the_declared_bounds() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = dict(each.split(">=") for each in project["dependencies"] + extras["cpu"])
    lines = (ROOT / "lowest.txt").read_text().splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == declared
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in declared.values())


def test_one_bound_for_onnxruntime() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    bounds = re.findall(r'"onnxruntime(?:-gpu)?(>=[^"]+)"', text)
    assert len(bounds) == 3 and len(set(bounds)) == 1
