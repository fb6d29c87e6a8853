"""The journal survives being killed at any moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samrefine_runtime.errors import OutputError
from samrefine_runtime.runs.journal import Journal

ENTRIES = [{"task": "image/a"}, {"task": "image/é\n日"}, {"failed": "b" * 200_000}]


def read(path: Path) -> list[object]:
    journal = Journal(path)
    try:
        found = list(journal)
        for place, value in found:
            assert value is None or journal.read(place) == value
        return [value for _, value in found]
    finally:
        journal.close()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    for entry in ENTRIES:
        journal = Journal(path)
        journal.append(entry)
        journal.close()
    return path


def test_entries_are_read_in_order(written: Path) -> None:
    assert read(written) == ENTRIES


@pytest.mark.parametrize("cut", [1, 2, 100_000, 200_010])
def test_a_line_that_was_being_written_is_dropped(cut: int, written: Path) -> None:
    written.write_bytes(written.read_bytes()[:-cut])
    assert read(written) == ENTRIES[:2]
    journal = Journal(written)
    journal.append({"task": "image/c"})
    journal.close()
    assert read(written) == [*ENTRIES[:2], {"task": "image/c"}]


@given(st.binary(max_size=300))
def test_any_bytes_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(content)
    before = read(path)
    journal = Journal(path)
    journal.append({"task": "image/a"})
    journal.close()
    assert read(path) == [*before, {"task": "image/a"}]


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path)
