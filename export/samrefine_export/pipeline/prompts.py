"""Point prompts inside a graph: which points of the grid are in or near the pseudo label."""

from __future__ import annotations

from samrefine_export.pipeline.builder import Graph, Value
from samrefine_export.pipeline.images import longest
from samrefine_runtime.labels import IGNORE

_STEPS = 32
"""The margin around the pseudo label is the longer side over this, as in `prompts.near_label`."""


def points_near(graph: Graph, points: Value, label: Value, height: Value, width: Value) -> Value:
    """Return the points (K, 2) XY, of (N, 2) in [0, 1], that a label (H, W) uint8 is near to.

    Points are float64, as in the runtime: in float32 one on a pixel's edge may be in the next.
    A point is near where a labelled pixel is in the square around its own. The sums of all pixels
    above and left of a place make a square's count four look-ups, whatever its size.
    """
    is_labelled = ~(label.equals(0) | label.equals(IGNORE))
    sums = graph.op("CumSum", is_labelled.to("int32"), graph.constant(0, "int64"))
    sums = graph.op("CumSum", sums, graph.constant(1, "int64"))
    # A row and a column of zeros before the first, (H + 1, W + 1)
    sums = graph.op("Pad", sums, graph.constant([1, 1, 0, 0], "int64"), 0)
    reach = (longest(graph, height, width) + (_STEPS - 1)) / _STEPS
    bounds = []
    for axis, side in ((1, height), (0, width)):
        place = (points.slice(1, axis, axis + 1).squeeze(1) * side.to("float64")).to("int64")
        place = graph.op("Min", place, side - 1)
        first = graph.op("Max", place - reach, [0])
        last = graph.op("Min", place + reach, side - 1) + 1
        bounds.append((first, last))
    (top, bottom), (left, right) = bounds

    def at(row: Value, column: Value) -> Value:
        place = graph.join(row.unsqueeze(1), column.unsqueeze(1), axis=1)
        return graph.op("GatherND", sums, place)

    count = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    return points.take(graph.op("NonZero", count > 0, dtype="int64").squeeze(0))
