"""Boxes and points to masks and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.labels import read_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.segment import Segmenter, paint
from tests.samples import ONE_THREAD, synthetic

IMAGE = synthetic((48, 72))


@pytest.fixture(scope="module")
def segmenter(lively_bundle: Path) -> Segmenter:
    return Segmenter(lively_bundle, session=ONE_THREAD)


def random_boxes(count: int) -> np.ndarray:
    corners = np.random.default_rng(0).random((count, 2, 2)) * [72, 48]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)


def test_many_boxes_are_each_as_one(segmenter: Segmenter) -> None:
    """More than a batch of them, and each as SamPredictor's single mask, cut to its box."""
    boxes, seen = random_boxes(19), []
    result = segmenter.boxes(IMAGE, boxes, progress=lambda *done: seen.append(done))
    assert seen == [(16, 19), (19, 19)]
    assert len(result.masks) == 19 and result.values.tolist() == [1] * 19
    for index, box in enumerate(boxes):
        mask, score, _ = segmenter.predictor.predict(box=box, multimask_output=False)
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        expected = np.zeros((48, 72), bool)
        expected[top:bottom, left:right] = mask[0][top:bottom, left:right]
        assert np.mean(result.masks.dense(index) != expected) < 0.002
        assert result.masks.predicted_iou[index] == pytest.approx(score[0], abs=1e-4)


def test_no_boxes_are_background(segmenter: Segmenter) -> None:
    result = segmenter.boxes(IMAGE, [])
    assert result.label.shape == (48, 72) and not result.label.any() and len(result.masks) == 0


def test_values_are_painted(segmenter: Segmenter) -> None:
    boxes = random_boxes(6)
    result = segmenter.boxes(IMAGE, boxes, [1, 2, 3, 4, 5, 254])
    assert np.array_equal(result.label, paint(result.masks, result.values))
    summary = result.summary([f"c{i}" for i in range(1, 255)])
    assert [each["class"] for each in summary["prompts"]] == ["c1", "c2", "c3", "c4", "c5", "c254"]
    assert sum(each["pixels"] for each in summary["classes"].values()) == (result.label > 0).sum()


def test_results_are_shown_and_saved(segmenter: Segmenter, tmp_path: Path) -> None:
    result = segmenter.boxes(IMAGE, random_boxes(3), [1, 4, 4])
    assert repr(result) == "SegmentResult(masks=3, values=[1, 4], image_shape=(48, 72))"
    assert result._repr_png_() == result.masks._repr_png_()
    result.save(tmp_path / "label.png")
    assert np.array_equal(read_label(tmp_path / "label.png"), result.label)


def test_the_smaller_mask_is_on_top() -> None:
    large, small = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    large[:, :4] = True
    small[1:3, 2:5] = True
    for masks, values in (([large, small], [1, 2]), ([small, large], [2, 1])):
        label = paint(Masks.from_dense((4, 6), masks), np.array(values, np.uint8))
        assert (label[small] == 2).all() and (label[large & ~small] == 1).all()
        assert not label[~(large | small)].any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**12 - 1), max_size=5), st.randoms())
def test_every_pixel_is_of_the_smallest_mask_over_it(bits: list[int], random: object) -> None:
    dense = [np.array([n >> i & 1 for i in range(12)], bool).reshape(3, 4) for n in bits]
    label = paint(Masks.from_dense((3, 4), dense), np.arange(1, len(bits) + 1, dtype=np.uint8))
    for pixel in np.ndindex(3, 4):
        over = [i for i, mask in enumerate(dense) if mask[pixel]]
        expected = min((dense[i].sum() for i in over), default=0)
        value = int(label[pixel])
        assert (value == 0) == (not over)
        assert value == 0 or (dense[value - 1].sum() == expected and value - 1 in over)


def test_points_mean_one_object(segmenter: Segmenter) -> None:
    predict = segmenter.predictor.predict
    result = segmenter.points(IMAGE, [[20, 10]], [1], value=7)
    masks, scores, _ = predict([[20, 10]], [1])
    assert np.mean(result.masks.dense(0) != masks[scores.argmax()]) < 0.002
    assert {*np.unique(result.label)} <= {0, 7} and len(result.masks) == 1
    # Several points, or a box, leave less doubt: SAM's single mask
    for points, labels, box in (
        ([[20, 10], [60, 40]], [1, 0], None),
        ([[20, 10]], [1], [5, 5, 40, 30]),
    ):
        result = segmenter.points(IMAGE, points, labels, box)
        masks, *_ = predict(points, labels, box, multimask_output=False)
        assert np.mean(result.masks.dense(0) != masks[0]) < 0.002
