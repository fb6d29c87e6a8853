"""A model's version tells results apart that differ."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from samrefine_rt.serve.engine import Engine
from samrefine_rt.serve.settings import Limits
from samrefine_runtime.bundle import Bundle
from tests.samples import ONE_THREAD


def version(**settings: Any) -> str:
    return Engine(Bundle.load("demo"), Limits(), session=ONE_THREAD, **settings).model_version


def test_version_changes_with_every_stage() -> None:
    changed = [
        {},
        {"cam": {"background_score": 0.3}},
        {"generator": {"points_per_side": 8}},
        {"refinement": {"min_inside": 0.6}},
    ]
    found = [version(**settings) for settings in changed]
    assert len({*found}) == len(changed)
    assert version() == found[0]
