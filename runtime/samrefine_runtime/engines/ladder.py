"""The precision ladder: the fastest precision whose outputs are close enough is taken.

A build that succeeds says nothing about its numbers: encoders were seen to overflow in fp16, and to
give the same embedding for every image. So every engine is compared with its graph in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends import Session
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.compare import difference, is_constant, mask_agreement, score_shift
from samrefine_runtime.engines.samples import Arrays, Samples
from samrefine_runtime.errors import SettingsError

PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
"""Precisions of engines, fastest first. TF32 is no precision of graphs: those in fp32 may be
computed in it, with products of 10 bits of mantissa."""

AUTO = "auto"
"""The precision that stands for the ladder."""

_OLDEST = {"bf16": (8, 0), "tf32": (8, 0)}
"""Compute capability (SM) from which GPUs have a precision, where not all have it."""

_MOST_RMS = 0.02
"""RMS difference relative to the RMS; 8e-3 was measured for bf16, 1e-3 for fp16."""

_LEAST_MEAN_IOU, _LEAST_IOU = 0.998, 0.93
"""Mean and least IoU of masks with those of the graph; a trained SAM in fp16 has .9992 and .944."""

_BITS = "mask_bits"
"""Output with eight pixels of masks in a byte."""

_MOST_SHIFT = 0.01
"""Largest difference of a predicted IoU; .006 in fp16."""


def variants(bundle: Bundle) -> dict[str, dict[str, Graph]]:
    """Return the graphs of a bundle in every precision it has, fastest first, by name."""
    found = {name: {bundle.precision: graph} for name, graph in bundle.graphs.items()}
    for precision in bundle.variants:
        for name, graph in bundle.graphs_in(precision).items():
            if graph.name != name:  # graphs that are not written in it are there already
                found[name][precision] = graph
    rank = {precision: index for index, precision in enumerate(PRECISIONS)}
    for each in found.values():
        if "fp32" in each:
            each["tf32"] = each["fp32"]
    return {
        name: dict(sorted(each.items(), key=lambda item: rank.get(item[0], -1)))
        for name, each in found.items()
    }


def rungs(
    available: Mapping[str, Mapping[str, Graph]], precision: str, capability: tuple[int, int]
) -> dict[str, dict[str, Graph]]:
    """Return the precisions to try for each graph, in order.

    Args:
        available: what `variants` returns.
        precision: a precision, or "auto" for all that the GPU has.
        capability: of the GPU.

    Raises:
        SettingsError: no graph has the precision, or the GPU has it not.
    """
    usable = {
        name: {p: graph for p, graph in each.items() if capability >= _OLDEST.get(p, (0, 0))}
        for name, each in available.items()
    }
    without = [name for name, each in usable.items() if not each]
    if without:
        raise SettingsError(
            f"this GPU (SM {capability[0]}.{capability[1]}) has no precision of graph "
            f"{without[0]!r}: export the bundle in fp32"
        )
    if precision == AUTO:
        return usable
    if not any(precision in each for each in usable.values()):
        known = ", ".join(dict.fromkeys(p for each in usable.values() for p in each))
        raise SettingsError(
            f"precision is {precision!r}, this GPU and the bundle have {known}: export the bundle "
            "with --precision"
        )
    # Some graphs are in one precision only, such as those that count pixels
    return {
        name: {precision: each[precision]} if precision in each else dict([*each.items()][-1:])
        for name, each in usable.items()
    }


@dataclass(frozen=True)
class Comparison:
    """How an engine's outputs compare with those of its graph."""

    figures: Mapping[str, float]
    """`rms`, and where masks depend on the graph `mean_iou`, `least_iou` and `score_shift`: the
    worst of all outputs and samples."""
    reason: str
    """Why the engine must not be used, "" if it may."""


def compare(graph: Graph, session: Session, samples: Samples, threshold: float) -> Comparison:
    """Run the samples of a graph and compare.

    Masks are compared where they arise: what the engine gives is handed on to the later graphs in
    ONNX Runtime.

    Args:
        graph: as the manifest has it.
        session: the engine.
        samples: of the bundle.
        threshold: logits above it are inside a mask.

    Raises:
        MemoryError: the sample does not fit into the device's memory.
        InferenceError: the engine fails.
    """
    pairs = [(session.run(feeds), expected) for feeds, expected in samples.of(graph.name)]
    for name in pairs[0][1]:
        actual, expected = [a[name] for a, _ in pairs], [e[name] for _, e in pairs]
        if not all(map(_is_finite, actual)):
            return Comparison({}, f"{name} is not finite")
        if is_constant(actual, expected):
            return Comparison({}, f"{name} is the same for every input")
    figures = {"rms": max(_rms(n, a[n], e[n]) for a, e in pairs for n in e)}
    figures |= _mask_figures(graph, [actual for actual, _ in pairs], samples, threshold)
    return Comparison(figures, _reason(figures))


def _mask_figures(
    graph: Graph, outputs: Sequence[Arrays], samples: Samples, threshold: float
) -> dict[str, float]:
    """Compare all masks and scores that depend on a graph; nothing where none does."""
    means, least, shifts = [], [], []
    for index, actual in enumerate(outputs):
        for name, found in samples.with_outputs(graph.name, index, actual).items():
            expected = [*samples.of(name)][index][1]
            for output in found.keys() & {"low_res_masks", _BITS}:
                agreement = mask_agreement(
                    _logits(output, found[output], threshold),
                    _logits(output, expected[output], threshold),
                    threshold,
                )
                means.append(agreement.mean)
                least.append(agreement.least)
            if "iou_predictions" in found:
                shifts.append(score_shift(found["iou_predictions"], expected["iou_predictions"]))
    figures = {"mean_iou": min(means), "least_iou": min(least)} if means else {}
    return {**figures, **({"score_shift": max(shifts)} if shifts else {})}


def _rms(output: str, actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the RMS difference, at most a large number: JSON has no infinity."""
    # A pixel at the threshold changes a byte by up to 128; masks are compared by their IoU
    return 0.0 if output == _BITS else min(difference(actual, expected).rms, 1e9)


def _logits(output: str, value: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Return masks as numbers that are above the threshold inside."""
    if output != _BITS:
        return value
    return np.where(np.unpackbits(value, axis=-1), threshold + 1, threshold - 1)


def _is_finite(value: NDArray[Any]) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _reason(figures: Mapping[str, float]) -> str:
    """Return which figures are out of bounds."""
    highest = {"rms": _MOST_RMS, "score_shift": _MOST_SHIFT}
    lowest = {"mean_iou": _LEAST_MEAN_IOU, "least_iou": _LEAST_IOU}
    found = [
        f"{name} {figures[name]:.4g}, expected at most {bound}"
        for name, bound in highest.items()
        if name in figures and not figures[name] <= bound
    ] + [
        f"{name} {figures[name]:.4g}, expected at least {bound}"
        for name, bound in lowest.items()
        if name in figures and not figures[name] >= bound
    ]
    return "; ".join(found)
