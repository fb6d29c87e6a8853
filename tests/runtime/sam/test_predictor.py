"""Prompts: points, boxes and earlier masks, one at a time and many at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import BundleError, ImageError, SettingsError
from samrefine_runtime.sam.predictor import Predictor
from tests.samples import ONE_THREAD, synthetic

IMAGE = synthetic((40, 60))
POINT: dict[str, Any] = {"point_coords": [[20, 10]], "point_labels": [1]}
BOX: dict[str, Any] = {"box": [5, 5, 40, 30]}


@pytest.fixture(scope="module")
def predictor(lively_bundle: Path) -> Predictor:
    made = Predictor(Bundle.load(lively_bundle), session=ONE_THREAD)
    made.set_image(IMAGE)
    return made


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize(
    "prompt",
    [
        POINT,
        BOX,
        {**POINT, **BOX},
        {"point_coords": np.array([[1, 2], [3, 4]]), "point_labels": np.array([1, 0])},
        {"mask_input": np.zeros((1, 64, 64), np.float32)},
    ],
    ids="+".join,
)
def test_shapes(predictor: Predictor, prompt: dict[str, Any], multimask: bool) -> None:
    masks, scores, low_res = predictor.predict(**prompt, multimask_output=multimask)
    count = 3 if multimask else 1
    assert masks.shape == (count, 40, 60)
    assert masks.dtype == bool
    assert scores.shape == (count,)
    assert low_res.shape == (count, 64, 64)
    assert low_res.dtype == scores.dtype == np.float32


def test_masks_are_logits_above_the_threshold(predictor: Predictor) -> None:
    masks, *_ = predictor.predict(**POINT)
    logits, *_ = predictor.predict(**POINT, return_logits=True)
    assert logits.dtype == np.float32
    assert np.array_equal(masks, logits > predictor.mask_threshold)
    assert masks.any() and not masks.all()


def test_prompts_matter(predictor: Predictor) -> None:
    """Each kind of prompt changes the logits."""
    other_point = {"point_coords": [[50, 35]], "point_labels": [1]}
    background = {**POINT, "point_labels": [0]}
    start = predictor.predict(**POINT)[2]
    mask = {**POINT, "mask_input": start[:1]}
    zero_mask = {**POINT, "mask_input": np.zeros((1, 64, 64), np.float32)}
    for prompt in (other_point, background, BOX, {**POINT, **BOX}, mask, zero_mask):
        assert not np.allclose(predictor.predict(**prompt)[2], start, atol=1e-4), prompt.keys()


def test_coordinates_are_of_the_image(predictor: Predictor) -> None:
    """The same box on the same scene, however large the image, is the same prompt."""
    predictor.set_image(np.full((40, 60, 3), 90, np.uint8))
    small = predictor.predict(box=[6, 4, 30, 20])[2]
    predictor.set_image(np.full((80, 120, 3), 90, np.uint8))
    masks, _, large = predictor.predict(box=[12, 8, 60, 40])
    another = predictor.predict(box=[6, 4, 30, 20])[2]
    predictor.set_image(IMAGE)
    assert masks.shape == (3, 80, 120)
    np.testing.assert_allclose(large, small, atol=1e-5)
    assert not np.allclose(another, small, atol=1e-2)


def test_a_box_may_have_a_leading_axis(predictor: Predictor) -> None:
    """As in segment-anything's own examples."""
    flat, framed = predictor.predict(**BOX)[2], predictor.predict(box=np.array([BOX["box"]]))[2]
    assert np.array_equal(flat, framed)


def test_many_prompts_are_each_alone(predictor: Predictor) -> None:
    points = np.array([[[20.0, 10.0]], [[50.0, 35.0]]])
    low_res, scores = predictor.predict_low_res(points, np.ones((2, 1)), multimask_output=False)
    assert low_res.shape == (2, 1, 64, 64)
    for i in range(2):
        _, score, alone = predictor.predict(points[i], [1], multimask_output=False)
        np.testing.assert_allclose(low_res[i], alone, atol=1e-4)
        np.testing.assert_allclose(scores[i], score, atol=1e-5)


def test_before_set_image(lively_bundle: Path) -> None:
    fresh = Predictor(Bundle.load(lively_bundle), session=ONE_THREAD)
    with pytest.raises(SettingsError, match="no image is set: call set_image first"):
        fresh.predict(**POINT)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": [[1, 2]]}, "point_coords and point_labels must be given together"),
        ({"point_labels": [1]}, "point_coords and point_labels must be given together"),
        (
            {"point_coords": [[1, 2]], "point_labels": [1, 0]},
            r"point_coords is \(1, 1, 2\) with po",
        ),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords is \(2,\) .* \(K, 2\)"),
        ({"point_coords": [[1, 2]], "point_labels": [[1]]}, r"point_labels is \(1, 1\) int"),
        ({"box": [1, 2, 3]}, r"box is \(3,\) int64, expected \(4,\) or \(1, 4\)"),
        ({"box": [[1, 2, 3, 4]] * 2}, r"box is \(2, 4\) int64, expected \(4,\)"),
        (
            {"mask_input": np.zeros((1, 32, 32), np.float32)},
            r"mask_input is .*, expected \(1, 64, 64\)",
        ),
        (
            {"mask_input": np.zeros((64, 64), np.float32)},
            r"mask_input is .*, expected \(1, 64, 64\)",
        ),
    ],
    ids=str,
)
def test_prompts_of_another_shape(
    predictor: Predictor, prompt: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        predictor.predict(**prompt)


def test_different_numbers_of_prompts(predictor: Predictor) -> None:
    with pytest.raises(SettingsError, match="prompts are 2 in point_coords, 1 in boxes, expected"):
        predictor.predict_low_res(np.zeros((2, 1, 2)), np.ones((2, 1)), boxes=np.zeros((1, 4)))


def test_image_of_another_layout(predictor: Predictor) -> None:
    with pytest.raises(ImageError, match=r"image is \(4, 5\) uint8, expected \(H, W, 3\)"):
        predictor.set_image(np.zeros((4, 5), np.uint8))


def test_bundle_without_a_decoder(lively_bundle: Path) -> None:
    bundle = Bundle.load(lively_bundle)
    graphs = {name: graph for name, graph in bundle.graphs.items() if name != "decoder"}
    with pytest.raises(BundleError, match=r"has no 'decoder' graph \(it has: encoder, everything"):
        Predictor(replace(bundle, graphs=graphs))


def test_types_follow_return_logits(predictor: Predictor) -> None:
    """mypy reads these lines too."""
    masks: NDArray[np.bool_] = predictor.predict([[20, 10]], [1])[0]
    logits: NDArray[np.float32] = predictor.predict([[20, 10]], [1], return_logits=True)[0]
    assert masks.dtype == np.bool_ and logits.dtype == np.float32
