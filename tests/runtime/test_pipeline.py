"""From an image to its refined label."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import BundleError, ImageError, LabelError, SettingsError
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.prompts import PROMPT_MODES, near_label
from tests.samples import ONE_THREAD
from tests.sepl import naive_sepl


def squares() -> NDArray[np.uint8]:
    """A red and a blue square on gray."""
    image = np.full((48, 64, 3), 90, np.uint8)
    image[8:24, 8:24] = (230, 10, 10)
    image[28:44, 36:60] = (10, 10, 230)
    return image


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


@pytest.fixture(scope="module")
def labeler(bundle: Bundle) -> Labeler:
    return Labeler(bundle, session=ONE_THREAD)


RED_AND_BLUE = np.array([True, False, True])


def test_pseudo_label_names_the_squares(labeler: Labeler) -> None:
    result = labeler.label(squares(), RED_AND_BLUE)
    assert labeler.classes == ("red", "green", "blue")
    assert result.pseudo_label.shape == result.label.shape == (48, 64)
    assert set(np.unique(result.pseudo_label)) == {0, 1, 3}
    assert (result.pseudo_label[12:20, 12:20] == 1).all()
    assert (result.pseudo_label[32:40, 40:56] == 3).all()
    assert (result.pseudo_label[:4] == 0).all()
    assert result.confidence.shape == (48, 64)
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1


@pytest.mark.parametrize("method", ["max_iou_imp2", "max_iou", "argmax"])
@pytest.mark.parametrize("prompts", PROMPT_MODES)
def test_label_is_sepl_of_pseudo_label_and_masks(bundle: Bundle, method: Any, prompts: Any) -> None:
    made = Labeler(
        bundle,
        generator={"prompts": prompts},
        refinement=RefineSettings(method),
        session=ONE_THREAD,
    )
    result = made.label(squares(), RED_AND_BLUE)
    assert len(result.masks) > 0
    stack = np.array([result.masks.dense(i) for i in range(len(result.masks))])
    assert np.array_equal(result.label, naive_sepl(result.pseudo_label, stack, method))
    assert result.changed == np.mean(result.label != result.pseudo_label)


def test_guided_prompts_lie_near_the_pseudo_label(bundle: Bundle, labeler: Labeler) -> None:
    counts: list[tuple[int, int]] = []
    result = labeler.label(squares(), RED_AND_BLUE, progress=lambda *c: counts.append(c))
    x, y = result.masks.point_coords.astype(int).T
    assert near_label(result.pseudo_label)[y, x].all()
    assert 0 < counts[-1][1] < 16
    asked = {}
    for mode in PROMPT_MODES:
        made = Labeler(bundle, generator={"prompts": mode}, session=ONE_THREAD)
        made.label(squares(), RED_AND_BLUE, progress=lambda *c: counts.append(c))
        asked[mode] = counts[-1][0]
    assert asked["guided"] <= asked["hierarchical"] <= asked["grid"] == 16


def test_image_without_classes_is_background_and_needs_no_masks(labeler: Labeler) -> None:
    result = labeler.label(squares(), np.zeros(3, bool))
    assert not result.label.any() and not result.pseudo_label.any()
    assert len(result.masks) == 0
    assert result.changed == 0


def test_classes_are_predicted_where_none_are_given(labeler: Labeler) -> None:
    image = np.full((40, 40, 3), 60, np.uint8)
    image[5:35, 5:35] = (0, 255, 0)
    result = labeler.label(image)
    assert set(np.unique(result.pseudo_label)) <= {0, 2}
    assert (result.pseudo_label[15:25, 15:25] == 2).all()


def test_summary_is_json_of_what_happened(labeler: Labeler) -> None:
    result = labeler.label(squares(), RED_AND_BLUE)
    summary = json.loads(json.dumps(result.summary(labeler.classes)))
    assert summary["size"] == [48, 64]
    assert set(summary["classes"]) == {"red", "blue"}
    red = summary["classes"]["red"]
    assert red["pseudo_label_pixels"] == np.count_nonzero(result.pseudo_label == 1)
    assert red["pixels"] == np.count_nonzero(result.label == 1)
    assert 0 <= red["probability"] <= 1
    assert summary["masks"] == len(result.masks)
    assert summary["changed"] == result.changed
    assert list(summary["seconds"]) == ["cam", "masks", "refine"]
    assert all(seconds >= 0 for seconds in summary["seconds"].values())


def test_settings_reach_their_stage(bundle: Bundle) -> None:
    strict = Labeler(
        bundle,
        generator={"points_per_side": 2, "prompts": "grid"},
        cam=CamSettings(background_score=1.0),
        session=ONE_THREAD,
    )
    counts: list[tuple[int, int]] = []
    result = strict.label(squares(), RED_AND_BLUE, progress=lambda *c: counts.append(c))
    assert not result.pseudo_label.any()
    assert counts[-1] == (4, 4)


def test_what_does_not_fit(bundle: Bundle, labeler: Labeler) -> None:
    with pytest.raises(ImageError, match="expected"):
        labeler.label(np.zeros((4, 5), np.uint8))
    with pytest.raises(LabelError, match=r"image_labels is \(2,\) bool, expected \(3,\) bool"):
        labeler.label(squares(), np.ones(2, bool))
    with pytest.raises(BundleError, match="holds no CAM classifier"):
        Labeler(replace(bundle, cam=None))
    with pytest.raises(BundleError, match="holds no SAM"):
        Labeler(replace(bundle, sam=None))
    with pytest.raises(SettingsError, match="unknown setting 'points'"):
        Labeler(bundle, generator={"points": 3})
    with pytest.raises(SettingsError, match="prompts is 'all', expected one of guided, near, hier"):
        Labeler(bundle, generator={"prompts": "all"})
