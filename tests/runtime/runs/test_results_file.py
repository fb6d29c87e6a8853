"""Results are written where a user says, but never over a file of the user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samrefine_runtime.errors import OutputError
from samrefine_runtime.runs.results_file import write_results_file


def test_results_replace_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for version in ("0.1.0", "7.2.3"):
        write_results_file(path, {"miou": 0.5}, version)
    assert json.loads(path.read_text()) == {"written_by": "samrefine 7.2.3", "miou": 0.5}


@pytest.mark.parametrize("content", ["", "{}", '{"written_by": "me"}', '[\n  "samrefine"]'])
def test_results_replace_nothing_else(content: str, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(content)
    with pytest.raises(OutputError, match=r"annotations\.json is in the way"):
        write_results_file(path, {"miou": 0.5}, "0.1.0")
    assert path.read_text() == content


def test_results_replace_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is in the way"):
        write_results_file(tmp_path, {}, "0.1.0")
