"""Compares two lists of SAM records, one of them the reference's."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Record = Mapping[str, Any]

SCORE = 1e-3
ROUNDING = 2e-4
"""a score this near a threshold may fall on either side of it"""


def assert_same_records(
    actual: Sequence[Record], expected: Sequence[Record], thresholds: Mapping[str, float]
) -> None:
    """Same masks, scores and order. A record that only one side has must have a score within
    rounding of its threshold, and two may change places only if their scores are that near."""
    places, lost = _match(actual, expected)
    extra = [record for i, record in enumerate(actual) if i not in places]
    for record in [*lost, *extra]:
        near = [abs(record[key] - value) for key, value in thresholds.items()]
        assert min(near) < ROUNDING, f"unmatched record, scores {near} from their thresholds"
    scores = [actual[i]["predicted_iou"] for i in places]
    for i, (before, after) in enumerate(itertools.pairwise(places)):
        assert before < after or abs(scores[i] - scores[i + 1]) < ROUNDING, "another order"


def _match(actual: Sequence[Record], expected: Sequence[Record]) -> tuple[list[int], list[Record]]:
    """Index in `actual` of each expected record that has a partner, and those without one."""
    places: list[int] = []
    lost: list[Record] = []
    for record in expected:
        partners = [i for i in range(len(actual)) if i not in places and _same(actual[i], record)]
        if partners:
            places.append(partners[0])
        else:
            lost.append(record)
    return places, lost


def _same(actual: Record, expected: Record) -> bool:
    return (
        actual["crop_box"] == expected["crop_box"]
        and np.allclose(actual["point_coords"], expected["point_coords"], rtol=0, atol=1e-6)
        and _close(actual["predicted_iou"], expected["predicted_iou"])
        and _close(actual["stability_score"], expected["stability_score"])
        and np.abs(np.subtract(actual["bbox"], expected["bbox"])).max() <= 1
        and actual["area"] == np.count_nonzero(actual["segmentation"])
        and _same_mask(actual["segmentation"], expected["segmentation"])
    )


def _close(actual: float, expected: float) -> bool:
    return bool(np.isclose(actual, expected, rtol=0, atol=SCORE, equal_nan=True))


def _same_mask(actual: Any, expected: Any) -> bool:
    differing = np.count_nonzero(actual != expected)
    union = np.count_nonzero(actual | expected)
    return bool(differing <= 3 or 1 - differing / union >= 0.999)
