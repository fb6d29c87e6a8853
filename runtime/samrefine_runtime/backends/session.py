"""A graph that is ready to run, whatever runs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from samrefine_runtime.bundle import TensorSpec
from samrefine_runtime.settings import Settings, choice, switch, text, whole

AUTO = "auto"
"""The backend option that stands for the fastest backend that runs here."""

FP32, FP16, BF16 = "fp32", "fp16", "bf16"
PRECISIONS = (FP32, FP16, BF16)

_MOST_THREADS = 1024
"""More than any machine has cores; every session starts its own."""


@dataclass(frozen=True)
class SessionOptions(Settings):
    """How graphs are run."""

    backend: str = text(AUTO, changes_result=False)
    """"auto" or a name in `backends.BACKENDS`, which is checked when a graph is opened."""
    threads: int | None = whole(
        None,
        1,
        _MOST_THREADS,
        help="CPU threads.  [default: all cores]",
        changes_result=False,
    )
    """CPU threads; None for all cores."""
    precision: str = choice(
        FP32,
        {
            FP32: "the bundle's own graphs",
            FP16: "those written in fp16, for GPUs",
            BF16: "OpenVINO on CPUs, or graphs written in bf16 on GPUs",
        },
        help="Precision of the arithmetic.",
    )
    """Precision of the arithmetic. fp32 runs the bundle's own graphs as they are written. fp16 and
    bf16 round what products take and give to 11 and 8 bits: ONNX Runtime runs the graphs that the
    bundle has in that precision, OpenVINO rounds by itself where the CPU has such products."""
    cache: str | None = text(None, is_optional=True, changes_result=False)
    """Folder for what an engine compiles of the graphs, as large as the weights; None: compile
    again in every process. OpenVINO uses it."""
    frees_memory: bool = switch(False, changes_result=False)
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
