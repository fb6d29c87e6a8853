"""SEPL inside a graph: which class takes which mask, and the refined label.

The runtime paints class after class; a pixel's result depends on two things alone, so here masks
are looked at one by one, in any order. Classes take masks in ascending order, and a class paints
its masks and those of its old pixels over which no mask is left. So at a pixel of pseudo label p
whose masks are taken by classes t, the result is the highest t, or p where that is higher and
every mask there is taken: the masks of lower classes are gone when it is p's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from samrefine_export.pipeline.builder import Graph, Stacked, Value
from samrefine_export.pipeline.counting import count
from samrefine_runtime.labels import IGNORE


class Rules(NamedTuple):
    """Settings of the refinement, each a number ()."""

    min_inside: Value
    min_cover: Value
    max_area_ratio: Value
    argmax: Value
    """bool: whether only the class that a mask overlaps most may take it."""
    min_trust: Value


class OneMask(NamedTuple):
    """A mask inside a window, and what puts windows into the image."""

    inside: Value
    """(h, w) bool."""
    label: Value
    """(h, w) uint8, the pseudo label in the window."""
    score: Value
    """() float32, its predicted IoU."""
    whole: Callable[[Value], Value]
    """Puts values (h, w) into zeros (H, W)."""


class Refined(NamedTuple):
    """What SEPL makes of a pseudo label."""

    label: Value
    """(H, W) uint8."""
    taken: Value
    """(S,) uint8, by which class each mask is taken, 0 for none."""


def refine(
    graph: Graph,
    pseudo_label: Value,
    present: Value,
    masks: Value,
    mask_of: Callable[[Value], OneMask],
    rules: Rules,
) -> Refined:
    """Refine a pseudo label.

    Args:
        graph: the graph.
        pseudo_label: (H, W) uint8.
        present: (K,) int64, its classes, ascending; further ones do not matter.
        masks: (1,) int64, how many there are.
        mask_of: returns the mask of a number () int64, inside the loop.
        rules: see `Rules`.
    """
    shape = graph.op("Shape", pseudo_label, dtype="int64")
    label = graph.where(pseudo_label.equals(IGNORE), graph.constant(0, "uint8"), pseudo_label)
    classes = present.to("uint8")
    class_areas = _areas(graph, pseudo_label, present)
    highest, is_left = graph.full(shape, 0, "uint8"), graph.full(shape, 0, "bool")
    surest, nothing = graph.full(shape, 0, "float32"), graph.constant(0, "uint8")

    def paint(run: Value, highest: Value, is_left: Value, surest: Value) -> list[Value]:
        mask = mask_of(run)
        taken = _taken_by(graph, mask, classes, class_areas, rules)
        inside = mask.whole(mask.inside.to("uint8")).to("bool")
        sure = inside.to("float32") * graph.op("Min", mask.score, 1.0)
        return [
            highest.or_larger(graph.where(inside, taken, nothing)),
            is_left | (inside & taken.equals(0)),
            graph.op("Max", surest, sure),
            taken,
        ]

    carried = [highest, is_left, surest]
    highest, is_left, surest, taken = graph.loop(masks, carried, paint, stacked=[Stacked("uint8")])
    refined = graph.where(is_left, highest, highest.or_larger(label))
    is_trusted = _trust(graph, label, surest) >= rules.min_trust
    none = graph.constant(0, "uint8")
    return Refined(graph.where(is_trusted, refined, label), graph.where(is_trusted, taken, none))


def _areas(graph: Graph, label: Value, present: Value) -> Value:
    """Count the pixels (K,) int32 of classes (K,) int64 in a label (H, W) uint8."""

    def area(run: Value) -> list[Value]:
        is_class = label.equals(present.take(run).to("uint8"))
        return [count(graph, is_class)]

    return graph.loop(present.side(0), [], area, stacked=[Stacked("int32")])[0]


def _taken_by(
    graph: Graph, mask: OneMask, classes: Value, class_areas: Value, rules: Rules
) -> Value:
    """Return the class () uint8 that takes a mask, 0 for none: the first that it fits."""
    area = count(graph, mask.inside).to("float32")
    is_class = mask.label.unsqueeze(0).equals(classes.unsqueeze(1, 2))
    shared = count(graph, is_class & mask.inside.unsqueeze(0))
    overlap, whole = shared.to("float32"), class_areas.to("float32")
    # Mostly inside the class, or covering most of it without being much larger
    fits = overlap > area * rules.min_inside
    covers = (overlap / whole) >= rules.min_cover
    fits = fits | (covers & (area <= whole * rules.max_area_ratio))
    # Only the class that the mask overlaps most, the first of equals
    padded = graph.join(shared, graph.constant([-1], "int32"))
    most = graph.op("ArgMax", padded, dtype="int64", axis=0, keepdims=1)
    is_most = graph.range(classes.side(0)).equals(most)
    fits = fits & (is_most | ~rules.argmax)
    # The first class that fits; one more place stands for none
    found = graph.join(fits.to("int32"), graph.constant([1], "int32"))
    first = graph.op("ArgMax", found, dtype="int64", axis=0, keepdims=0)
    return graph.join(classes, graph.constant([0], "uint8")).take(first)


_SUREST = 0.25
"""As in the runtime's `trust.py`."""


def _trust(graph: Graph, label: Value, surest: Value) -> Value:
    """Return how sure SAM is of what the label marks, (); see the runtime's `image_trust`.

    Args:
        graph: the graph.
        label: (H, W) uint8, without void.
        surest: (H, W) float32, the highest predicted IoU of the masks over a pixel.
    """
    explained = ~label.equals(0) & (surest > 0)
    values = graph.where(explained, surest, 0.0).reshape(-1)
    pixels = count(graph, explained).to("float32")
    wanted = pixels * _SUREST
    # The surest quarter: whole pixels, and a part of the one after them
    taken = graph.op("Ceil", wanted).to("int64").unsqueeze(0)
    best, _ = graph.ops("TopK", values, taken, dtypes=["float32", "int64"])
    weights = graph.op("Clip", wanted - graph.range(taken).to("float32"), 0.0, 1.0)
    total = (best * weights).reduce("Sum", 0)
    return graph.where(pixels > 0, total / graph.op("Max", wanted, 1e-6), 1.0)
