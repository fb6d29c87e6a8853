"""Images inside a graph: resized as Pillow does, and as networks want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from samrefine_export.pipeline.builder import Graph, Value

_FRACTION_BITS = 22
"""Pillow rounds the weights of pixels to so many bits after the point."""

_LOW = 1 << (_FRACTION_BITS // 2)
"""Weights are split at this many: sums of either half are exact in float32."""


def resized(graph: Graph, image: Value, height: Value, width: Value, *, cubic: bool) -> Value:
    """Resize an image (3, H, W) uint8 with Pillow's antialiased bilinear or bicubic filter.

    Each direction is a product with a matrix, rounded to uint8 like Pillow's. Across comes first;
    from version 13 on Pillow begins with what is cheaper, where a pixel may differ by one. The
    operator Resize is no substitute: runtimes filter in their own ways where they reduce an image.
    """
    across = _weights(graph, image.side(2), width, cubic=cubic)
    down = _weights(graph, image.side(1), height, cubic=cubic)
    pixels = image.to("float32")
    wide = _rounded(graph, *(pixels @ half.transpose(1, 0) for half in across))
    return _rounded(graph, *(half @ wide.to("float32") for half in down))


def _weights(graph: Graph, source: Value, target: Value, *, cubic: bool) -> tuple[Value, Value]:
    """Return what each pixel of the source weighs in one of the target, (to, from) float32.

    The weight is the first matrix times _LOW plus the second, whole numbers in units of Pillow's
    last bit. Places are compared in whole numbers too, since floats cannot tell those of large
    images: distance = (2 j + 1) target - (2 i + 1) source, in units of 2 target, stretched where
    the image is reduced.
    """
    of_target = (graph.range(target) * 2 + 1) * source
    of_source = (graph.range(source) * 2 + 1) * target
    distance = graph.op("Abs", of_source - of_target.unsqueeze(1)).to("float64")
    distance = distance / (graph.op("Max", source, target) * 2).to("float64")
    weights = (_bicubic if cubic else _triangle)(graph, distance)
    weights = weights / weights.reduce("Sum", 1, keep=True)
    units = graph.op("Round", weights * float(1 << _FRACTION_BITS))
    high = graph.op("Floor", units / float(_LOW))
    return high.to("float32"), (units - high * float(_LOW)).to("float32")


def _triangle(graph: Graph, x: Value) -> Value:
    return graph.op("Relu", 1 - x)


def _bicubic(graph: Graph, x: Value) -> Value:
    """Return Keys' cubic of a = -1/2 at distances x, nothing from 2 on."""
    near = (x * 1.5 - 2.5) * x * x + 1
    far = ((x * -0.5 + 2.5) * x - 4.0) * x + 2.0
    return graph.where(x < 1.0, near, graph.where(x < 2.0, far, 0.0))


def _rounded(graph: Graph, high: Value, low: Value) -> Value:
    """Return pixels uint8 of the sums by both halves of the weights, rounded half up."""
    total = high.to("int32") * _LOW + low.to("int32") + (1 << (_FRACTION_BITS - 1))
    shifted = graph.op("Max", total, 0) / (1 << _FRACTION_BITS)
    return graph.op("Min", shifted, 255).to("uint8")


def enlarged(graph: Graph, maps: Value, height: Value, width: Value) -> Value:
    """Resize maps (K, h, w) float32, bilinear between pixel centres, to (K, height, width)."""
    sizes = graph.shape_of(1, maps.side(0), height, width)
    return graph.op("Resize", maps.unsqueeze(0), None, None, sizes, mode="linear").squeeze(0)


def normalised(
    graph: Graph, image: Value, mean: NDArray[np.float32], std: NDArray[np.float32], most: float
) -> Value:
    """Return (image / most - mean) / std, (1, 3, H, W) float32, of (3, H, W) uint8."""
    centred = image.to("float32") / most - mean.reshape(3, 1, 1)
    return (centred / std.reshape(3, 1, 1)).unsqueeze(0)


def longest(graph: Graph, height: Value, width: Value) -> Value:
    """Return the longer of two sides, each (1,) int64."""
    return graph.op("Max", height, width)


def fitted_side(graph: Graph, side: Value, longer: Value, target: int) -> Value:
    """Return a side (1,) int64 after the longer one is scaled to `target`, half up.

    floor(side target / longer + 1 / 2), in whole numbers.
    """
    scaled = (side * (2 * target) + longer) / (longer * 2)
    return graph.op("Max", scaled, [1])
