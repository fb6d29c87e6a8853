"""The queue in front of the model: one request at a time is computed, the others wait or go away.

Inference uses all cores by itself, so one thread computes. Requests of a person who waits for the
answer to a click go before those of a batch.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from samrefine_rt.serve.errors import RequestError
from samrefine_runtime.arguments import Progress

Result = TypeVar("Result")

Work = Callable[[Progress], Result]
"""Computes something, and calls what it is given after every step, which may raise `Stopped`."""


class Stopped(Exception):
    """Nobody waits for the result any more."""


class Job(Generic[Result]):
    """Work that waits or runs."""

    def __init__(self, work: Work[Result]):
        self.work = work
        self.result: Future[Result] = Future()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Forget the work if it waits, end it after the step that runs if it does."""
        self._stopped.set()
        self.result.cancel()

    def step(self, done: int, total: int) -> None:
        """Go on to the next step. Raises Stopped where nobody waits any more."""
        if self._stopped.is_set():
            raise Stopped

    def run(self) -> None:
        """Do the work, unless it was stopped before."""
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            self.result.set_result(self.work(self.step))
        except BaseException as error:  # whatever it is, it is for whoever waits for the result
            self.result.set_exception(error)


class WorkQueue:
    """Runs work in a thread of its own, what is urgent first, else in the order it came in."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Job[Any]]] = []
        self._running: Job[Any] | None = None
        self._count, self._is_closed = 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="samrefine-work", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Count the work that waits; what was stopped counts until its turn."""
        return len(self._waiting)

    def submit(self, work: Work[Result], *, is_urgent: bool = False) -> Job[Result]:
        """Queue work. Raises RequestError (503) after `close`."""
        job = Job(work)
        with self._changed:
            if self._is_closed:
                raise RequestError(503, "STOPPING", "the server is stopping")
            self._count += 1
            heapq.heappush(self._waiting, (0 if is_urgent else 1, self._count, job))
            self._changed.notify()
        return job

    def close(self) -> None:
        """Stop all work, and return when the thread has ended."""
        with self._changed:
            self._is_closed = True
            for _, _, job in self._waiting:
                job.stop()
            if self._running is not None:
                self._running.stop()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                self._running = heapq.heappop(self._waiting)[2]
            self._running.run()
            with self._changed:
                self._running = None
