"""Box NMS, against the definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.masks.nms import box_nms

Box = tuple[int, int, int, int]


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, right = sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    top, bottom = sorted(draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    return left, top, right, bottom


def iou(a: Box, b: Box) -> Fraction | None:
    """None where both are empty."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - overlap
    return Fraction(overlap, union) if union else None


def naive_nms(found: list[Box], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: (-scores[i], i)):
        worst = [iou(found[i], found[j]) for j in kept]
        if all(value is None or np.float32(value) <= threshold for value in worst):
            kept.append(i)
    return kept


@settings(max_examples=300)
@given(st.data(), st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]))
def test_equal_to_the_definition(data: st.DataObject, threshold: float) -> None:
    """Scores come from few values, so that many are equal."""
    found = data.draw(st.lists(boxes(), max_size=12))
    scores = [data.draw(st.sampled_from([0.1, 0.5, 0.9])) for _ in found]
    actual = box_nms(
        np.array(found, np.int32).reshape(-1, 4), np.array(scores, np.float32), threshold
    )
    assert actual.tolist() == naive_nms(found, scores, threshold)


def test_an_iou_at_the_threshold_stays() -> None:
    found = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.int32)
    scores = np.array([0.9, 0.8], np.float32)
    assert box_nms(found, scores, 0.5).tolist() == [0, 1]
    assert box_nms(found, scores, 0.4999).tolist() == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    found = np.array([[0, 0, 10, 1], [3, 0, 13, 1], [6, 0, 16, 1]], np.int32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert box_nms(found, scores, 0.5).tolist() == [0, 2]


def test_empty_boxes_are_not_duplicates() -> None:
    found = np.zeros((3, 4), np.int32)
    assert box_nms(found, np.ones(3, np.float32), 0.5).tolist() == [0, 1, 2]
