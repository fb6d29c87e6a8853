"""How far what one engine gives is from what another one gives of the same inputs.

A build that succeeds proves nothing: in fp16 some encoders overflow, and one was seen to give the
same embedding for every image, without an error. Each figure here notices one such failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST_VARIATION = 0.1
"""Fraction of the expected variation between inputs below which outputs count as constant; sound
engines, bf16 included, are within a few percent of 1."""

_LEAST_PIXELS = 16
"""Of two low-res masks together, below which they are not compared."""


class Difference(NamedTuple):
    """How far an output is from the expected one."""

    is_finite: bool
    """Whether all actual numbers are finite."""
    rms: float
    """Root of the mean square difference, relative to that of the expected numbers."""
    largest: float
    """Largest absolute difference."""


class MaskAgreement(NamedTuple):
    """IoU of masks with the expected ones, 0 to 1; 1 where there is no mask."""

    mean: float
    least: float


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare an output with the expected one, of the same shape.

    Numbers that are not finite are infinitely far away, so that every bound notices them.
    """
    if not np.isfinite(actual).all():
        return Difference(False, np.inf, np.inf)
    if actual.size == 0:
        return Difference(True, 0.0, 0.0)
    # In float64: squares of float32 logits lose the digits that are looked for
    error = np.asarray(actual, np.float64) - np.asarray(expected, np.float64)
    scale, rms = _rms(expected), _rms(error)
    relative = rms / scale if scale else (np.inf if rms else 0.0)
    return Difference(True, float(relative), float(np.abs(error).max()))


def mask_agreement(actual: NDArray[Any], expected: NDArray[Any], threshold: float) -> MaskAgreement:
    """Compare masks (..., h, w), logits of which those above the threshold are inside.

    Masks that together have fewer than _LEAST_PIXELS pixels count as equal: in those a pixel at the
    threshold decides, and no filter of everything mode lets them pass. NaN is outside of every
    mask.
    """
    inside, wanted = actual > threshold, expected > threshold
    both = np.count_nonzero(inside & wanted, axis=(-2, -1)).ravel()
    either = np.count_nonzero(inside | wanted, axis=(-2, -1)).ravel()
    if both.size == 0:
        return MaskAgreement(1.0, 1.0)
    iou = np.where(either >= _LEAST_PIXELS, both / np.maximum(either, 1), 1.0)
    return MaskAgreement(float(iou.mean()), float(iou.min()))


def score_shift(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest absolute difference of scores; infinity for scores that are not finite."""
    return difference(actual, expected).largest


def is_constant(actual: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> bool:
    """Return whether outputs hardly depend on the input, while the expected ones do.

    Args:
        actual: outputs of two or more different inputs, all of one shape.
        expected: the expected outputs of the same inputs.
    """
    return _variation(actual) < _LEAST_VARIATION * _variation(expected)


def _variation(outputs: Sequence[NDArray[Any]]) -> float:
    """Return how far outputs are from their mean: the root of the mean square."""
    stacked = np.stack(outputs).astype(np.float64)
    return _rms(stacked - stacked.mean(axis=0))


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64)))))
