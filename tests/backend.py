"""Backends of the tests' own: the CPU's, with a limit on what fits into memory or as a device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from samrefine_runtime.backends import BACKENDS, Opener, Session, SessionOptions
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import Graph

NAME = "of-the-tests"


class LimitedSession:
    """A session in which batches of more than `fits` do not fit into memory."""

    def __init__(self, session: Session, batched: str, fits: int, tried: list[int]):
        self.session, self.batched, self.fits, self.tried = session, batched, fits, tried
        self.inputs, self.outputs = session.inputs, session.outputs
        self.is_on_device = session.is_on_device

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph if its batch fits; see `Session.run`."""
        self._check(feeds)
        return self.session.run(feeds)

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph if its batch fits; see `Session.run_on_device`."""
        self._check(feeds)
        return self.session.run_on_device(feeds, fetch)

    def _check(self, feeds: Mapping[str, Any]) -> None:
        if self.batched in feeds:
            self.tried.append(len(feeds[self.batched]))
            if self.tried[-1] > self.fits:
                raise MemoryError("Failed to allocate")


@contextmanager
def short_of_memory(batched: str, fits: int) -> Iterator[tuple[SessionOptions, list[int]]]:
    """Register a backend that fails for large batches.

    Args:
        batched: the input whose length is the size of a batch.
        fits: the largest batch that does not fail.

    Yields:
        Options that choose the backend, and the sizes of the batches it was given.
    """
    tried: list[int] = []

    def opener(graph: Graph, options: SessionOptions) -> Session:
        return LimitedSession(open_cpu(graph, options), batched, fits, tried)

    with _registered(opener):
        yield SessionOptions(backend=NAME, threads=1), tried


@contextmanager
def on_device() -> Iterator[SessionOptions]:
    """Register the CPU's backend as one whose values lie in a memory of its own.

    It cannot tell whether they do: it shows that none of them is read as an array.
    """

    def opener(graph: Graph, options: SessionOptions) -> Session:
        session: Any = open_cpu(graph, options)
        session.is_on_device = True
        return session

    with _registered(opener):
        yield SessionOptions(backend=NAME, threads=1)


@contextmanager
def _registered(opener: Opener) -> Iterator[None]:
    BACKENDS.add(NAME, opener)
    try:
        yield
    finally:
        BACKENDS.remove(NAME)
