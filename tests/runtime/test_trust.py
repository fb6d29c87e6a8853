"""How far an image's masks are trusted, and what becomes of labels where they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings, refine
from samrefine_runtime.trust import CAUTIOUS, image_trust, is_trusted
from tests.samples import ONE_THREAD, synthetic

Scene = tuple[LabelMap, NDArray[np.bool_], NDArray[np.float32]]


def scored(stack: NDArray[np.bool_], scores: list[float] | NDArray[np.float32]) -> Masks:
    height, width = stack.shape[1:]
    masks = Masks.from_dense((height, width), stack)
    return replace(masks, predicted_iou=np.array(scores, np.float32))


def row(*spans: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks of one image of 1 x 16 pixels, each from a column to another."""
    stack = np.zeros((len(spans), 1, 16), bool)
    for mask, (start, stop) in zip(stack, spans, strict=True):
        mask[0, start:stop] = True
    return stack


def test_only_the_surest_quarter_of_the_explained_label_counts() -> None:
    label = np.ones((1, 16), np.uint8)
    masks = scored(row((0, 4), (0, 16)), [0.9, 0.5])
    assert image_trust(label, masks) == pytest.approx(0.9)
    masks = scored(row((0, 2), (0, 16)), [0.9, 0.5])
    assert image_trust(label, masks) == pytest.approx((2 * 0.9 + 2 * 0.5) / 4)


def test_one_mask_is_trusted_as_its_predicted_iou() -> None:
    label = np.ones((1, 16), np.uint8)
    for span in ((0, 16), (5, 6)):
        assert image_trust(label, scored(row(span), [0.7])) == pytest.approx(0.7)


def test_each_pixel_belongs_to_its_surest_mask() -> None:
    # The quarter is 4 pixels: 1 at 0.9, 2 more at 0.8 and 1 at 0.3, in any order of the masks
    label, stack = np.ones((1, 16), np.uint8), row((0, 16), (0, 1), (0, 3))
    scores = np.array([0.3, 0.9, 0.8], np.float32)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        trust = image_trust(label, scored(stack[order], scores[order]))
        assert trust == pytest.approx((0.9 + 2 * 0.8 + 0.3) / 4)


def test_background_and_void_do_not_count() -> None:
    label = np.array([[0] * 4 + [255] * 4 + [3] * 8], np.uint8)
    masks = scored(row((0, 4), (4, 8), (8, 16)), [0.99, 0.95, 0.4])
    assert image_trust(label, masks) == pytest.approx(0.4)


def test_a_label_that_no_mask_explains_is_no_reason_for_distrust() -> None:
    label = np.array([[0] * 8 + [3] * 8], np.uint8)
    assert image_trust(label, scored(row((0, 8)), [0.1])) == 1
    assert is_trusted(label, Masks.from_dense((1, 16), []), 1.0)


def test_predicted_iou_above_one_is_one() -> None:
    assert image_trust(np.ones((1, 16), np.uint8), scored(row((0, 16)), [1.2])) == 1


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    height, width, count = (draw(st.integers(1, 6)) for _ in range(3))
    label = draw(hnp.arrays(np.uint8, (height, width), elements=st.sampled_from([0, 1, 2, 255])))
    stack = draw(hnp.arrays(bool, (count, height, width)))
    scores = draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1.5, width=32)))
    return label, stack, scores


@given(scenes())
def test_trust_is_what_its_text_says(scene: Scene) -> None:
    label, stack, scores = scene
    surest = np.where(stack, np.minimum(scores, 1)[:, None, None], -1).max(axis=0)
    explained = surest[(label > 0) & (label < 255) & (surest >= 0)].astype(np.float64)
    expected, left, wanted = 0.0, 0.25 * len(explained), 0.25 * len(explained)
    for value in sorted(explained, reverse=True):
        expected += value * min(1.0, left)
        left -= min(1.0, left)
    trust = image_trust(label, scored(stack, scores))
    assert trust == pytest.approx(expected / wanted if wanted else 1.0, abs=1e-6)


@given(scenes(), st.floats(0, 1))
def test_masks_that_are_all_sure_need_no_second_look(scene: Scene, min_trust: float) -> None:
    label, stack, scores = scene
    sure = np.maximum(scores, np.float32(min_trust) + np.float32(1e-6))
    assert is_trusted(label, scored(stack, sure), min_trust)
    assert image_trust(label, scored(stack, sure)) >= min(min_trust, 1.0)


@given(scenes())
def test_a_distrusted_image_keeps_its_label(scene: Scene) -> None:
    label, stack, scores = scene
    masks = scored(stack, np.minimum(scores, 0.8))
    kept = refine(label, masks, RefineSettings(min_trust=0.9))
    plain = refine(label, masks, RefineSettings())
    trusted = image_trust(label, masks) >= 0.9
    assert np.array_equal(kept, plain if trusted else np.where(label == 255, 0, label))


def test_a_label_that_stays_loses_its_void() -> None:
    label = np.array([[1] * 8 + [255] * 4 + [0] * 4], np.uint8)
    masks = scored(row((0, 12)), [0.5])
    kept = refine(label, masks, RefineSettings(min_trust=0.6))
    assert kept.tolist() == [[1] * 8 + [0] * 8]
    refined = refine(label, masks, RefineSettings(min_trust=0.4))
    assert refined.tolist() == [[1] * 12 + [0] * 4]
    assert np.array_equal(refined, refine(label, masks, RefineSettings()))


@given(scenes(), st.floats(0, 1))
def test_a_trusted_image_is_refined_as_without_a_limit(scene: Scene, min_trust: float) -> None:
    label, stack, scores = scene
    masks = scored(stack, scores)
    is_plain = is_trusted(label, masks, min_trust)
    expected = (
        refine(label, masks, RefineSettings()) if is_plain else np.where(label == 255, 0, label)
    )
    assert np.array_equal(refine(label, masks, RefineSettings(min_trust=min_trust)), expected)


def test_the_papers_settings_take_every_mask_and_a_bundles_do_not(lively_bundle: Path) -> None:
    bundle = Bundle.load(lively_bundle)
    assert RefineSettings().min_trust == 0
    assert RefineSettings.of(None).min_trust == RefineSettings.of(bundle).min_trust == CAUTIOUS
    lax = replace(bundle, defaults={**bundle.defaults, "min_trust": 0.3})
    assert RefineSettings.of(lax).min_trust == 0.3
    assert RefineSettings.of(lax, min_trust=0.6).min_trust == 0.6


def test_the_pipeline_is_cautious_unless_told(lively_bundle: Path) -> None:
    bundle, image = Bundle.load(lively_bundle), synthetic((48, 72))
    present = np.array([True, False, True])
    plain = Labeler(bundle, refinement=RefineSettings(), session=ONE_THREAD)
    strict = Labeler(bundle, refinement=RefineSettings(min_trust=1), session=ONE_THREAD)
    result = plain.label(image, present)
    assert 0 < result.trust < 1 and result.changed > 0
    assert strict.label(image, present).changed == 0
    assert Labeler(bundle, session=ONE_THREAD).refinement.min_trust == CAUTIOUS


def test_the_manifest_decides_which_labels_stay(lively_bundle: Path) -> None:
    bundle, image = Bundle.load(lively_bundle), synthetic((48, 72))
    present = np.array([True, False, True])
    plain = Labeler(bundle, refinement=RefineSettings(), session=ONE_THREAD).label(image, present)
    for min_trust, is_kept in ((plain.trust - 0.01, False), (plain.trust + 0.01, True)):
        own = replace(bundle, defaults={**bundle.defaults, "min_trust": min_trust})
        result = Labeler(own, refinement=None, session=ONE_THREAD).label(image, present)
        assert np.array_equal(result.pseudo_label, plain.pseudo_label)
        assert np.array_equal(result.label, plain.pseudo_label if is_kept else plain.label)
    assert not np.array_equal(plain.label, plain.pseudo_label)
