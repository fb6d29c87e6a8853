"""Which shapes engines are built for, by the names of a graph's dynamic axes.

An engine takes the shapes of its optimisation profiles only; its kernels are chosen for one shape
of each. Memory for the largest shapes must be there when it is built, so that axes which multiply,
such as masks and pixels, get several profiles instead of one that is large in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from samrefine_runtime.backends.tensorrt.native import Shape, ShapeRange
from samrefine_runtime.bundle import Graph
from samrefine_runtime.errors import BackendError, printable
from samrefine_runtime.masks.packed import PIXELS_PER_BYTE
from samrefine_runtime.sam.point_decoder import SMALLEST_SIDE, masks_at_once


class Range(NamedTuple):
    """Lengths of an axis."""

    least: int
    best: int
    most: int


Axes = Mapping[str, Range]
"""Lengths of all dynamic axes of a graph in one profile."""

_MASKS_PER_PROMPT = 3

_BEST_PROMPTS = 64
"""SAM's own batch (`points_per_batch`)."""

_BEST_CHOSEN = 16
"""Prompts of such a batch with a mask that passes the predicted IoU; 20 to 30% do."""

_MOST_CAM_SIDE = 2048
"""CAM's `max_side` at the largest of IRN's scales."""

_VIEWS = Range(1, 2, 2)
"""Views of an image that CAM runs at once: itself and its flip."""

_POINTS = Range(1, 2, 16)
"""Points of one prompt."""


def profiles_of(graph: Graph, *, most_prompts: int, most_side: int) -> list[dict[str, ShapeRange]]:
    """Return the profiles of a graph, each the shapes of all its inputs by name.

    Args:
        graph: with axes named as `samrefine export` names them.
        most_prompts: largest number of prompts at once.
        most_side: largest side of an image, pixels.

    Returns:
        Nothing for a graph whose shapes are fixed.

    Raises:
        BackendError: no lengths are known for its axes.
    """
    axes = {side for tensor in graph.inputs for side in tensor.shape if isinstance(side, str)}
    if not axes:
        return []
    known = [each for each in _known_axes(most_prompts, most_side) if each[0].keys() == axes]
    if not known:
        raise BackendError(
            f"graph {graph.name!r} has axes {printable(', '.join(sorted(axes)))}, for which no "
            "lengths are known: export it again"
        )
    return [{t.name: _shapes(t.shape, lengths) for t in graph.inputs} for lengths in known[0]]


def _known_axes(most_prompts: int, most_side: int) -> list[list[Axes]]:
    """Return the profiles of every kind of graph."""
    prompts = Range(1, min(_BEST_PROMPTS, most_prompts), most_prompts)
    chosen = Range(1, min(_BEST_CHOSEN, most_prompts), most_prompts)
    masks = Range(*(_MASKS_PER_PROMPT * each for each in chosen))._replace(least=1)
    return [
        # everything_tokens
        [{"prompts": prompts}],
        # everything_masks
        [{"prompts": prompts, "chosen_prompts": chosen, "chosen_masks": masks}],
        # decoder: few prompts at once, of a user
        [{"prompts": prompts._replace(best=1), "points": _POINTS}],
        # everything_finish, whose width comes in whole bytes
        [
            {
                "masks": _masks_of(side),
                "height": sides,
                "width": sides._replace(least=PIXELS_PER_BYTE),
            }
            for side, sides in _sides(most_side)
        ],
        # cam
        [
            {"batch": _VIEWS, "height": sides, "width": sides}
            for _, sides in _sides(min(most_side, _MOST_CAM_SIDE))
        ],
    ]


def _sides(most: int) -> list[tuple[int, Range]]:
    """Return ranges of an image's sides, by their largest: powers of two, the last one above."""
    largest = [SMALLEST_SIDE]
    while largest[-1] < most:
        largest.append(2 * largest[-1])
    return [(side, Range(1, side * 3 // 4, side)) for side in largest]


def _masks_of(side: int) -> Range:
    most = masks_at_once((side, side))
    return Range(1, max(1, most // 2), most)


def _shapes(shape: tuple[int | str, ...], axes: Axes) -> ShapeRange:
    def at(index: int) -> Shape:
        return tuple(side if isinstance(side, int) else axes[side][index] for side in shape)

    return ShapeRange(at(0), at(1), at(2))
