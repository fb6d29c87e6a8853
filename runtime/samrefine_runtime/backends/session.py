"""A graph that is ready to run, whatever runs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from samrefine_runtime.bundle import TensorSpec
from samrefine_runtime.settings import Settings, switch, text, whole

AUTO = "auto"
"""The backend option that stands for the fastest backend that runs here."""

_MOST_THREADS = 1024
"""More than any machine has cores; every session starts its own."""


@dataclass(frozen=True)
class SessionOptions(Settings):
    """How graphs are run."""

    backend: str = text(AUTO)
    """"auto" or a name in `backends.BACKENDS`, which is checked when a graph is opened."""
    threads: int | None = whole(None, 1, _MOST_THREADS, help="CPU threads.  [default: all cores]")
    """CPU threads; None for all cores."""
    frees_memory: bool = switch(False)
    """Whether a run's memory is given back after it: for graphs that run once per image, whose
    memory would lie idle while the other graphs run."""


class Session(Protocol):
    """A graph ready to run."""

    inputs: Sequence[TensorSpec]
    """What the graph takes, as the engine understands it."""
    outputs: Sequence[TensorSpec]
    """What the graph gives, as the engine understands it."""
    is_on_device: bool
    """Whether the graph runs in a memory of its own, so that an output is copied to be read."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph.

        Args:
            feeds: inputs by name: arrays, or values that `run_on_device` of a session of the same
                backend returned.

        Returns:
            Outputs by name.

        Raises:
            MemoryError: the batch does not fit into memory.
            InferenceError: any other failure.
        """

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph and leave the outputs, by name, where it runs.

        They can only be fed to sessions of the same backend.

        Args:
            feeds: as for `run`.
            fetch: names of outputs that are returned as arrays all the same.

        Raises:
            MemoryError: as `run`.
            InferenceError: as `run`.
        """
