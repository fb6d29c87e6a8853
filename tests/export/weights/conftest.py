"""A cache of its own for every test, and no proxy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMREFINE_CACHE", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SAMREFINE_MIRROR", "SAMREFINE_REGISTRY"):
            monkeypatch.delenv(name)
    return tmp_path / "cache" / "weights"
