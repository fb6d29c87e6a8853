"""Figures of how far outputs are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samrefine_runtime.compare import (
    Difference,
    MaskAgreement,
    difference,
    is_constant,
    mask_agreement,
    score_shift,
)

VALUES = np.array([3, -4, 0, 0], np.float32)


@pytest.mark.parametrize(
    ("actual", "expected", "rms", "largest"),
    [
        (VALUES, VALUES, 0, 0),
        (VALUES + 1, VALUES, 1 / 2.5, 1),
        (2 * VALUES, VALUES, 1, 4),
        (0 * VALUES, 0 * VALUES, 0, 0),
        (VALUES, 0 * VALUES, math.inf, 4),
        (VALUES[:0], VALUES[:0], 0, 0),
        (np.array([5], np.uint8), np.array([7], np.uint8), 2 / 7, 2),
    ],
)
def test_difference(actual: np.ndarray, expected: np.ndarray, rms: float, largest: float) -> None:
    found = difference(actual, expected)
    assert found.is_finite
    assert (found.rms, found.largest) == pytest.approx((rms, largest))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_far_away(value: float) -> None:
    spoiled = VALUES.copy()
    spoiled[2] = value
    assert difference(spoiled, VALUES) == Difference(False, math.inf, math.inf)
    assert score_shift(spoiled, VALUES) == math.inf


def test_score_shift_is_the_largest_one() -> None:
    assert score_shift(np.array([0.5, 0.75]), np.array([0.5, 1.0])) == 0.25


def test_masks_are_compared_one_by_one() -> None:
    expected = np.full((4, 2, 16), -1.0)
    expected[0], expected[1, 0], expected[2, 0] = 1, 1, 1
    actual = expected.copy()
    actual[1, 1] = 1  # twice the area
    actual[2] = np.nan  # nothing inside
    # 1, 1/2, 0, and 1 for two empty masks
    assert mask_agreement(actual, expected, 0) == MaskAgreement(2.5 / 4, 0)
    assert mask_agreement(actual[:0], expected[:0], 0) == MaskAgreement(1, 1)


def test_specks_are_not_compared() -> None:
    """A pixel at the threshold decides in them; masks that vanish are noticed all the same."""
    expected = np.full((2, 4, 8), -1.0)
    expected[0, 0], expected[1, :2] = 1, 1
    nothing = np.full_like(expected, -1.0)
    assert mask_agreement(nothing, expected, 0) == MaskAgreement(0.5, 0)
    assert mask_agreement(nothing[:1], expected[:1], 0) == MaskAgreement(1, 1)


def test_the_threshold_itself_is_outside() -> None:
    at, above = np.full((1, 4, 4), 0.5), np.full((1, 4, 4), 0.6)
    assert mask_agreement(at, above, 0.5).mean == 0
    assert mask_agreement(at, above, 0.4).mean == 1


def test_constant_outputs() -> None:
    rng = np.random.default_rng(0)
    expected = list(rng.normal(10, 1, size=(2, 50)))
    noisy = [each + rng.normal(0, 0.05, 50) for each in expected]
    assert not is_constant(noisy, expected)
    assert is_constant([expected[0], expected[0]], expected)
    assert is_constant([expected[0], expected[0] + 0.01 * expected[1]], expected)
    # What does not depend on the input in the reference either is no failure
    assert not is_constant([expected[0]] * 2, [expected[1]] * 2)
