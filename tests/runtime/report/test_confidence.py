"""How sure the models are of an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.confidence import image_confidence
from samrefine_runtime.trust import image_trust

SHAPE = 120, 200


def cam(value: float, image_shape: tuple[int, int] = SHAPE) -> CamResult:
    maps = np.full((1, 12, 20), value, np.float32)
    return CamResult(np.array([1]), maps, 0.15, np.array([0.9], np.float32), image_shape)


def scene(scores: tuple[float, ...]) -> tuple[NDArray[np.uint8], Masks]:
    """A label of two halves of the image's middle, and a mask over each with these scores."""
    label = np.zeros(SHAPE, np.uint8)
    label[30:90, 50:150] = 1
    parts = np.zeros((2, *SHAPE), bool)
    parts[0, 30:90, 50:100] = parts[1, 30:90, 90:150] = True
    return label, replace(
        Masks.from_dense(SHAPE, parts), predicted_iou=np.array(scores, np.float32)
    )


@pytest.mark.parametrize("scores", [(0.9, 0.5), (0.5, 0.9), (0.7, 0.7), (1.2, 0.1), (-0.5, 0.3)])
def test_without_a_cam_it_is_the_trust(scores: tuple[float, float]) -> None:
    label, masks = scene(scores)
    trust = min(1.0, max(0.0, image_trust(label, masks)))
    assert image_confidence(None, label, masks) == pytest.approx(trust, abs=0.01)


def test_it_is_the_product() -> None:
    label, masks = scene((0.8, 0.8))
    assert image_confidence(cam(0.6), label, masks) == pytest.approx(0.6 * 0.8)
    # Below the background score, the label is background, of which the CAM is sure
    assert image_confidence(cam(0.1), label, masks) == pytest.approx(0.9 * 0.8)


def test_classifier_is_as_sure_as_its_own_label() -> None:
    maps = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    found = CamResult(np.arange(1, 4), maps, 0.15, np.ones(3, np.float32), SHAPE)
    label, masks = scene((1, 1))
    assert image_confidence(found, label, masks) == pytest.approx(found.label()[1].mean())


def test_nothing_is_sure() -> None:
    empty = np.zeros(SHAPE, np.uint8)
    assert image_confidence(None, empty, Masks.from_dense(SHAPE, [])) == 1
    none = CamResult(
        np.zeros(0, np.int64), np.zeros((0, 2, 2), np.float32), 0.15, np.zeros(1, np.float32), SHAPE
    )
    assert image_confidence(none, empty, Masks.from_dense(SHAPE, [])) == 1
