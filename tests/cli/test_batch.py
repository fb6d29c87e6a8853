"""Work over many inputs: outputs are written beside the work, failures are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from samrefine_rt.cli.batch import FAILURES, Advance, Outcome, Work, Write, run_batch
from samrefine_rt.cli.options import RunOptions
from samrefine_runtime.errors import ImageError, OutputError, StorageError
from samrefine_runtime.runs import IMAGE, OutputFolder, RunRecord, Task


def run(folder: Path, items: str, work: Work, options: RunOptions | None = None) -> Outcome:
    """Work on one task per letter."""
    tasks = [Task(IMAGE + item, item, ("text",)) for item in items]
    with OutputFolder(folder, RunRecord("test", None), "1") as opened:
        return run_batch(tasks, work, opened, options or RunOptions(), quiet=True)


def writes(item: str) -> Write:
    return lambda staging: (staging / item).write_text(item)


def test_an_output_is_written_while_the_next_input_is_worked_on(tmp_path: Path) -> None:
    working_on_b = threading.Event()

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        if task.label == "b":
            working_on_b.set()
        return lambda _: working_on_b.wait(20) or pytest.fail("b waited for a's output")

    assert run(tmp_path, "ab", work).done == ["a", "b"]


def failing_work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
    """Fails on a, b and d, each in its own way."""

    def fail(_: Path) -> None:
        raise OutputError(f"{task.label} is\nin the way")

    if task.label == "a":
        raise ImageError("a is\nbroken")
    if task.label == "b":
        raise MemoryError
    return fail if task.label == "d" else writes(task.label)


def test_failures_of_work_and_of_writing_are_kept(tmp_path: Path) -> None:
    assert run(tmp_path, "c", failing_work).done == ["c"]
    outcome = run(tmp_path, "abcde", failing_work)
    assert outcome.done == ["e"]
    assert outcome.skipped == ["c"]
    assert outcome.failed == {"a": "a is\\nbroken", "b": "out of memory", "d": "d is\\nin the way"}
    lines = [json.loads(line) for line in (tmp_path / FAILURES).read_text().splitlines()]
    assert lines == [
        {"input": "a", "error": "ImageError", "message": "a is\\nbroken"},
        {"input": "b", "error": "MemoryError", "message": "out of memory"},
        {"input": "d", "error": "OutputError", "message": "d is\\nin the way"},
    ]


def test_failures_alone_can_be_tried_again(tmp_path: Path) -> None:
    run(tmp_path, "abcd", failing_work)
    again = run(
        tmp_path, "abcdx", lambda task, *_: writes(task.label), RunOptions(only_failed=True)
    )
    assert again.done == ["a", "b", "d"]
    assert not (tmp_path / FAILURES).exists()
    assert not (tmp_path / "x").exists()


def test_everything_can_be_done_again(tmp_path: Path) -> None:
    for options in (RunOptions(), RunOptions(overwrites=True)):
        assert run(tmp_path, "ab", lambda task, *_: writes(task.label), options).done == ["a", "b"]


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    worked: list[str] = []

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        worked.append(task.label)

        def write(_: Path) -> None:
            raise StorageError("no space left")

        return write

    with pytest.raises(StorageError, match="no space left"):
        run(tmp_path, "abcd", work)
    assert len(worked) <= 2
