"""A session whose graph is what the manifest says, and whose outputs are what it promises."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from samrefine_runtime.backends.session import Session
from samrefine_runtime.bundle import Graph, TensorSpec
from samrefine_runtime.errors import BackendError, InferenceError, printable

_LARGEST = 1e18
"""The square of a larger number overflows float32; no embedding, logit or map comes near."""


class RunsOn(NamedTuple):
    """What runs a graph."""

    backend: str
    """Name in `BACKENDS`."""
    passed_over: Mapping[str, str]
    """Why backends that "auto" prefers to it do not run here, by name."""


class CheckedSession:
    """Runs a graph, whatever runs it, and checks its outputs."""

    def __init__(self, graph: Graph, session: Session, runs_on: RunsOn):
        """Check that the graph takes and gives what the manifest says. Raises BackendError."""
        self.graph, self._session, self.runs_on = graph, session, runs_on
        self.is_on_device = session.is_on_device
        self.inputs, self.outputs = session.inputs, session.outputs
        _check_tensors(graph, "takes", session.inputs, graph.inputs, may_be_fixed=False)
        _check_tensors(graph, "gives", session.outputs, graph.outputs, may_be_fixed=True)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph; see `Session.run`. Outputs are as promised, and finite."""
        outputs = self._session.run(feeds)
        for promised in self.graph.outputs:
            self._check_output(promised, outputs[promised.name])
        return outputs

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph; see `Session.run_on_device`. What stays there is not looked at."""
        outputs = self._session.run_on_device(feeds, fetch)
        for promised in self.graph.outputs:
            if promised.name in fetch:
                self._check_output(promised, outputs[promised.name])
        return outputs

    def _check_output(self, promised: TensorSpec, value: NDArray[Any]) -> None:
        """Raise InferenceError unless an output is as promised and finite."""
        # Engines take the shapes that a file states for its outputs as hints only
        actual = TensorSpec(promised.name, value.dtype.name, value.shape)
        if not actual.fits(promised, may_be_fixed=True):
            raise InferenceError(
                f"graph {self.graph.name!r} gave {actual}, its manifest says {promised}"
            )
        if not _is_sound(value):
            raise InferenceError(
                f"graph {self.graph.name!r} gave {printable(promised.name)} with NaN, infinite or "
                "absurd values: its weights are damaged, or its precision is too low"
            )


def _check_tensors(
    graph: Graph,
    verb: str,
    actual: Sequence[TensorSpec],
    promised: Sequence[TensorSpec],
    *,
    may_be_fixed: bool,
) -> None:
    """Raise BackendError unless both are the same tensors, in any order."""
    found = {tensor.name: tensor for tensor in actual}
    said = {tensor.name: tensor for tensor in promised}
    for name in found | said:
        have, want = found.get(name), said.get(name)
        if have is None or want is None or not have.fits(want, may_be_fixed=may_be_fixed):
            nothing = f"no {printable(name)}"
            raise BackendError(
                f"graph {graph.name!r} {verb} {have or nothing}, its manifest says "
                f"{want or nothing}"
            )


def _is_sound(value: NDArray[Any]) -> bool:
    """Return whether all numbers are finite and far from overflow; other values are sound."""
    if value.dtype.kind != "f" or value.size == 0:
        return True
    # NaN passes through both and compares as false; unlike isfinite it allocates nothing
    return bool(value.min() > -_LARGEST and value.max() < _LARGEST)
