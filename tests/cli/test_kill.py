"""A few of the kills of `python -m tests.kill`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill import check, scenarios


@pytest.mark.parametrize("command", ["label", "refine", "segment", "masks"])
def test_killed_runs_end_as_undisturbed_ones(
    command: str, lively_bundle: Path, tmp_path: Path
) -> None:
    check(scenarios(tmp_path / "inputs", lively_bundle)[command], tmp_path, kills=4, seed=1)
