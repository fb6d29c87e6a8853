"""The queue: order, ends, and what is left of work that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from samrefine_rt.serve.errors import RequestError
from samrefine_rt.serve.work import Stopped, WorkQueue
from samrefine_runtime.arguments import Progress


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    found = WorkQueue()
    yield found
    found.close()


def test_urgent_work_goes_first(queue: WorkQueue) -> None:
    gate, order = threading.Event(), []
    queue.submit(lambda step: gate.wait(10))
    jobs = [
        queue.submit(lambda step, name=name: order.append(name), is_urgent=name[0] == "u")
        for name in ("a", "b", "u1", "u2")
    ]
    gate.set()
    for job in jobs:
        job.result.result(10)
    assert order == ["u1", "u2", "a", "b"]


def test_stopped_work_ends_at_its_next_step(queue: WorkQueue) -> None:
    begun, seen = threading.Event(), []

    def work(step: Progress) -> None:
        begun.set()
        for number in range(10**9):
            step(number, 10**9)
            seen.append(number)

    job = queue.submit(work)
    assert begun.wait(10)
    job.stop()
    with pytest.raises(Stopped):
        job.result.result(10)


def test_work_that_waits_is_forgotten(queue: WorkQueue) -> None:
    gate, ran = threading.Event(), []
    queue.submit(lambda step: gate.wait(10))
    job = queue.submit(lambda step: ran.append(1))
    job.stop()
    gate.set()
    with pytest.raises(CancelledError):
        job.result.result(10)
    assert queue.submit(lambda step: 5).result.result(10) == 5
    assert not ran


def test_errors_are_the_caller_s(queue: WorkQueue) -> None:
    def work(step: Progress) -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        queue.submit(work).result.result(10)
    assert queue.submit(lambda step: 5).result.result(10) == 5


def test_a_closed_queue_takes_nothing() -> None:
    queue = WorkQueue()
    queue.close()
    with pytest.raises(RequestError, match="stopping"):
        queue.submit(lambda step: None)
