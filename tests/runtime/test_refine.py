"""SEPL: bit-exact with a naive implementation, and what its text promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.evaluate import confusion_matrix
from samrefine_runtime.labels import read_label
from samrefine_runtime.masks import masks as masks_module
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import (
    METHODS,
    RefineSettings,
    overlaps,
    refine,
    refine_labels,
)
from samrefine_runtime.trust import image_trust
from tests.samples import VOC, needs_voc
from tests.sepl import Label, Stack, made_up_masks, naive_sepl

SHARES = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.85, 1.0])


def labels(shape: tuple[int, int]) -> st.SearchStrategy[Label]:
    return hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 2, 7, 254, 255]))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Label, Stack]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=7))
    count = draw(st.integers(0, 6))
    return draw(labels(shape)), draw(hnp.arrays(bool, (count, *shape)))


def packed(stack: Stack) -> Masks:
    return Masks.from_dense(stack.shape[1:], stack)


def label_of(*rows: str) -> Label:
    """Digits, one row a string; x is 255."""
    return np.array([[255 if c == "x" else int(c) for c in row] for row in rows], np.uint8)


def masks_of(*masks: tuple[str, ...]) -> Masks:
    """# is the mask."""
    return packed(np.array([[[c == "#" for c in row] for row in mask] for mask in masks]))


@settings(max_examples=400, deadline=None)
@given(scenes(), st.sampled_from(METHODS))
def test_equal_to_the_naive_implementation(scene: tuple[Label, Stack], method: Any) -> None:
    label, stack = scene
    refined = refine_labels(label, packed(stack), method=method)
    assert refined.dtype == np.uint8
    assert np.array_equal(refined, naive_sepl(label, stack, method))


@settings(max_examples=300, deadline=None)
@given(
    scenes(),
    st.sampled_from(METHODS),
    SHARES,
    SHARES,
    st.sampled_from([None, 0.5, 1.0, 2.0, 4.0]),
)
def test_equal_to_the_naive_implementation_at_any_threshold(
    scene: tuple[Label, Stack],
    method: Any,
    min_inside: float,
    min_cover: float,
    max_area_ratio: float | None,
) -> None:
    label, stack = scene
    thresholds: dict[str, Any] = {
        "min_inside": min_inside,
        "min_cover": min_cover,
        "max_area_ratio": max_area_ratio,
    }
    refined = refine_labels(label, packed(stack), method=method, **thresholds)
    assert np.array_equal(refined, naive_sepl(label, stack, method, **thresholds))


@needs_voc
def test_equal_to_the_naive_implementation_on_all_voc_labels() -> None:
    paths = sorted((VOC / "transcam").glob("*.png"))
    assert len(paths) == 150
    changed = 0
    for seed, path in enumerate(paths):
        label = read_label(path)
        stack = made_up_masks(label, 15, seed)
        refined = refine_labels(label, packed(stack))
        assert np.array_equal(refined, naive_sepl(label, stack)), path.name
        changed += int((refined != label).any())
    assert changed > 140


@needs_voc
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_the_naive_implementation_on_busy_voc_labels(method: Any) -> None:
    """The six labels of most classes, with many masks."""
    paths = sorted((VOC / "transcam").glob("*.png"))
    busy = sorted(paths, key=lambda path: -len(np.unique(read_label(path))))[:6]
    assert len(np.unique(read_label(busy[-1]))) >= 4
    for seed, path in enumerate(busy):
        label = read_label(path)
        stack = made_up_masks(label, 30, 1000 + seed)
        for ratio in (None, 4.0):
            refined = refine_labels(label, packed(stack), method=method, max_area_ratio=ratio)
            expected = naive_sepl(label, stack, method, max_area_ratio=ratio)
            assert np.array_equal(refined, expected), (path.name, ratio)


@needs_voc
def test_perfect_masks_improve_voc_labels() -> None:
    before = after = np.zeros((21, 21), np.int64)
    for path in sorted((VOC / "transcam").glob("*.png"))[:40]:
        label, truth = read_label(path), read_label(VOC / "gt" / path.name)
        regions = [truth == c for c in np.unique(truth) if c != 255]
        refined = refine_labels(label, Masks.from_dense(label.shape, regions))
        before = before + confusion_matrix(label, truth, 21)
        after = after + confusion_matrix(refined, truth, 21)

    def mean_iou(confusion: NDArray[np.int64]) -> float:
        hits = np.diag(confusion)
        union = confusion.sum(0) + confusion.sum(1) - hits
        return float((hits[union > 0] / union[union > 0]).mean())

    assert mean_iou(after) > mean_iou(before) + 0.05


def test_exactly_half_inside_is_not_mostly_inside() -> None:
    label = label_of("1100", "1100")
    half, more = masks_of((".##.", "...."), ("##..", "....")), masks_of((".##.", ".#.."))
    assert refine_labels(label, half, method="max_iou").tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert refine_labels(label, more, method="max_iou").tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]


def test_exactly_85_percent_covers() -> None:
    """17 of 20 pixels, in a mask that is mostly outside."""
    label = np.zeros((3, 20), np.uint8)
    label[0] = 1
    mask = np.ones((1, 3, 20), bool)
    mask[0, 0, 17:] = False
    assert np.array_equal(refine_labels(label, packed(mask)) == 1, mask[0] | (label == 1))
    mask[0, 0, 16] = False
    assert np.array_equal(refine_labels(label, packed(mask)) == 1, (label == 1) & ~mask[0])


def test_label_inside_a_rejected_mask_becomes_background() -> None:
    """The mask is neither half inside nor covers: the false activation goes, the rest stays."""
    label = label_of("10000", "11111")
    mask = masks_of(("###..", "....."))
    assert refine_labels(label, mask).tolist() == [[0] * 5, [1] * 5]


def test_pixels_under_masks_of_earlier_classes_only_count_as_uncovered() -> None:
    """Class 1 takes the mask; class 2 keeps its pixel there, as no free mask covers it."""
    label = label_of("1112")
    mask = masks_of(("####",))
    assert refine_labels(label, mask).tolist() == [[1, 1, 1, 2]]
    assert refine_labels(label, mask, method="max_iou").tolist() == [[1, 1, 1, 1]]


def test_later_classes_overwrite_earlier_ones() -> None:
    label = label_of("1122")
    overlapping = masks_of(("###.",), (".###",))
    assert refine_labels(label, overlapping).tolist() == [[1, 2, 2, 2]]


def test_argmax_gives_a_mask_to_its_largest_class() -> None:
    """The default gives it to class 1, which it covers."""
    label = label_of("1222", "0000")
    mask = masks_of(("####", "...."))
    assert refine_labels(label, mask).tolist() == [[1, 2, 2, 2], [0] * 4]
    assert refine_labels(label, mask, method="argmax").tolist() == [[2] * 4, [0] * 4]


def test_area_cap_stops_a_background_mask() -> None:
    label = label_of("1000", "0000")
    mask = masks_of(("####", "####"))
    assert (refine_labels(label, mask) == 1).all()
    assert refine_labels(label, mask, max_area_ratio=8).all()
    assert not refine_labels(label, mask, max_area_ratio=7.9).any()


def test_void_becomes_background() -> None:
    label = label_of("xx1x")
    assert refine_labels(label, packed(np.zeros((0, 1, 4), bool))).tolist() == [[0, 0, 1, 0]]
    assert refine_labels(label, masks_of(("####",))).tolist() == [[1, 1, 1, 1]]


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from(METHODS), st.integers(1, 9))
def test_strips_make_no_difference(
    scene: tuple[Label, Stack], method: Any, strip_pixels: int
) -> None:
    label, stack = scene
    masks = replace(packed(stack), predicted_iou=np.linspace(0, 1, len(stack), dtype=np.float32))
    whole, trust = refine_labels(label, masks, method=method), image_trust(label, masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks_module, "_STRIP_PIXELS", strip_pixels)
        assert np.array_equal(refine_labels(label, masks, method=method), whole)
        assert image_trust(label, masks) == trust


@given(scenes(), st.randoms(use_true_random=False))
def test_order_of_masks_does_not_matter(scene: tuple[Label, Stack], random: Any) -> None:
    label, stack = scene
    order = list(range(len(stack)))
    random.shuffle(order)
    assert np.array_equal(
        refine_labels(label, packed(stack)), refine_labels(label, packed(stack[order]))
    )


@given(scenes())
def test_input_is_not_changed(scene: tuple[Label, Stack]) -> None:
    label, stack = scene
    before, masks = label.copy(), packed(stack)
    refine_labels(label, masks)
    assert np.array_equal(label, before)
    assert all(np.array_equal(masks.dense(i), stack[i]) for i in range(len(stack)))


def test_settings_as_one_object_are_the_same() -> None:
    label = label_of("1222", "1000")
    stack = made_up_masks(label, 8, 0)
    chosen = RefineSettings("argmax", 0.4, 0.7, 3.0, num_classes=5)
    expected = naive_sepl(label, stack, "argmax", min_inside=0.4, min_cover=0.7, max_area_ratio=3)
    assert np.array_equal(refine(label, packed(stack), chosen), expected)


@given(scenes())
def test_table_of_overlaps(scene: tuple[Label, Stack]) -> None:
    label, stack = scene
    classes = np.array([1, 2, 254], np.uint8)
    table = overlaps(label.T.reshape(-1), classes, packed(stack))
    expected = [[int((mask & (label == c)).sum()) for c in classes] for mask in stack]
    assert np.array_equal(table, np.reshape(expected, (len(stack), 3)))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((3, 4), np.uint8), r"pseudo label is 4 x 3 pixels, its masks are 3 x 2"),
        (np.zeros((2, 3), np.int64), r"pseudo label is \(2, 3\) int64, expected \(H, W\) uint8"),
        (np.zeros((2, 3, 1), np.uint8), r"pseudo label is \(2, 3, 1\) uint8"),
        (np.full((2, 3), 21, np.uint8), r"pseudo label has class 21, expected 0 to 20 or 255"),
    ],
)
def test_labels_that_do_not_fit(label: Any, message: str) -> None:
    masks = packed(np.zeros((1, 2, 3), bool))
    with pytest.raises(LabelError, match=message):
        refine_labels(label, masks, num_classes=21)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "max_iou_imp3"}, "method is 'max_iou_imp3', expected one of max_iou_imp2"),
        ({"min_inside": 1.01}, "min_inside is 1.01, expected a number from 0 to 1"),
        ({"min_cover": -0.1}, "min_cover is -0.1, expected a number from 0 to 1"),
        ({"min_cover": float("nan")}, "min_cover is nan"),
        ({"max_area_ratio": 0}, "max_area_ratio is 0, expected a number above 0"),
        ({"max_area_ratio": float("nan")}, "max_area_ratio is nan, expected a number above 0"),
        ({"num_classes": 0}, "num_classes is 0, expected a whole number from 2 to 255"),
        ({"num_classes": 256}, "num_classes is 256, expected a whole number from 2 to 255"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RefineSettings(**setting)
