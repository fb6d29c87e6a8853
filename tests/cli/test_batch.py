"""Work over many inputs: outputs are written beside the work, failures are kept."""

from __future__ import annotations

import threading

import pytest

from samrefine_rt.cli.batch import Advance, Outcome, Write, run_batch
from samrefine_runtime.errors import ImageError, OutputError


def run(items: list[str], work: object) -> Outcome:
    return run_batch(items, work, name=str, quiet=True)  # type: ignore[arg-type]


def test_an_output_is_written_while_the_next_input_is_worked_on() -> None:
    working_on_b = threading.Event()

    def work(item: str, advance: Advance) -> Write:
        if item == "b":
            working_on_b.set()
        return lambda: working_on_b.wait(20) or pytest.fail("b waited for a's output")

    assert run(["a", "b"], work).done == ["a", "b"]


def test_failures_of_work_and_of_writing_are_kept() -> None:
    def fail(item: str) -> None:
        raise ImageError(f"{item} is\nbroken")

    def work(item: str, advance: Advance) -> Write | None:
        if item == "a":
            fail(item)
        if item == "b":
            raise MemoryError
        return None if item == "c" else lambda: fail(item) if item == "d" else None

    outcome = run(list("abcde"), work)
    assert outcome.done == ["e"]
    assert outcome.skipped == ["c"]
    assert outcome.failed == {"a": "a is broken", "b": "out of memory", "d": "d is broken"}


def test_a_full_disk_ends_the_run() -> None:
    worked: list[str] = []

    def work(item: str, advance: Advance) -> Write:
        worked.append(item)

        def write() -> None:
            raise OutputError("no space left")

        return write

    with pytest.raises(OutputError, match="no space left"):
        run(list("abcd"), work)
    assert len(worked) <= 2
