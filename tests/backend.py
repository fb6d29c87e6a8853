"""A backend of the tests' own: the CPU's, with a limit on what fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import Graph

NAME = "short-of-memory"


class LimitedSession:
    """A session in which batches of more than `fits` do not fit into memory."""

    def __init__(self, session: Session, batched: str, fits: int, tried: list[int]):
        self.session, self.batched, self.fits, self.tried = session, batched, fits, tried
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph if its batch fits; see `Session.run`."""
        if self.batched in feeds:
            self.tried.append(len(feeds[self.batched]))
            if self.tried[-1] > self.fits:
                raise MemoryError("Failed to allocate")
        return self.session.run(feeds)

    def run_on_device(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Run the graph, without a limit; see `Session.run_on_device`."""
        return self.session.run_on_device(feeds)


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

    BACKENDS.add(NAME, opener)
    try:
        yield SessionOptions(backend=NAME, threads=1), tried
    finally:
        BACKENDS.remove(NAME)
