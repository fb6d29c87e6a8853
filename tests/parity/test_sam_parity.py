"""The runtime returns what segment-anything returns in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samrefine_export.lint import slow_attention
from samrefine_export.sam import MODELS, export_sam, random_sam
from samrefine_export.sam.reference import everything
from samrefine_export.third_party import Sam, SamPredictor
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.image import read_image
from samrefine_runtime.sam.encoder import preprocess
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.predictor import Predictor
from tests.parity.records import assert_same_records
from tests.samples import SHAPES, needs_voc, synthetic, voc_images
from tests.small_sam import small_sam

LOOSE = {"box_nms_thresh": 0.995, "stability_score_thresh": 0.3}
CROPS = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.99}


@pytest.fixture(scope="module")
def sam() -> Sam:
    return small_sam(0)


@pytest.fixture(scope="module")
def bundle(small_bundle: Path) -> Bundle:
    return Bundle.load(small_bundle)


def spread_masks(
    sam: Sam, bundle: Bundle, image: NDArray[np.uint8]
) -> tuple[Bundle, dict[str, float]]:
    """Make masks of random weights as selective as trained ones: the mask threshold at the upper
    tenth of the logits, the predicted IoU that most masks exceed, and an offset for stability
    that suits the spread of the logits."""
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    height, width = image.shape[:2]
    points = np.random.default_rng(0).random((24, 1, 2)) * [width, height]
    coords = torch.as_tensor(predictor.transform.apply_coords(points, (height, width)))
    _, scores, low_res = predictor.predict_torch(coords, torch.ones(24, 1))
    threshold = float(np.quantile(low_res, 0.9))
    sam.mask_threshold = threshold
    assert bundle.sam is not None
    settings = {
        "pred_iou_thresh": float(np.quantile(scores, 0.25)),
        "stability_score_offset": 0.05 * float(low_res.std()),
    }
    return replace(bundle, sam=replace(bundle.sam, mask_threshold=threshold)), settings


def assert_parity(
    sam: Sam, bundle: Bundle, image: NDArray[np.uint8], **settings: Any
) -> list[dict[str, Any]]:
    bundle, spread = spread_masks(sam, bundle, image)
    settings = {**spread, **LOOSE, **settings}
    expected = everything(sam, image, **settings)
    actual = MaskGenerator(bundle, **settings).records(image)
    thresholds = {
        "predicted_iou": settings["pred_iou_thresh"],
        "stability_score": settings["stability_score_thresh"],
    }
    assert_same_records(actual, expected, thresholds)
    return actual


def assert_close(actual: NDArray[np.float32], expected: torch.Tensor) -> None:
    """Within 1e-4 of the reference's own scale."""
    reference = expected.numpy()
    assert actual.shape == reference.shape
    assert np.abs(actual - reference).max() <= 1e-4 * np.abs(reference).max()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_preprocessed_image_is_bit_identical(
    sam: Sam, bundle: Bundle, shape: tuple[int, int]
) -> None:
    image = synthetic(shape)
    predictor = SamPredictor(sam)
    resized = torch.as_tensor(predictor.transform.apply_image(image)).permute(2, 0, 1)[None]
    assert np.array_equal(preprocess(image, bundle.require_sam()), sam.preprocess(resized).numpy())


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_prompts_give_the_references_embedding_and_logits(
    sam: Sam, bundle: Bundle, shape: tuple[int, int], multimask: bool
) -> None:
    image = synthetic(shape)
    height, width = shape
    reference, predictor = SamPredictor(sam), Predictor(bundle)
    reference.set_image(image)
    predictor.set_image(image)
    assert_close(predictor.get_image_embedding(), reference.features)

    rng = np.random.default_rng(1)
    corners = np.sort(rng.random((2, 2)), axis=0) * [width, height]
    prompts: list[dict[str, Any]] = [
        {"point_coords": rng.random((1, 2)) * [width, height], "point_labels": np.array([1])},
        {"point_coords": rng.random((3, 2)) * [width, height], "point_labels": np.array([1, 0, 1])},
        {"box": corners.reshape(4)},
    ]
    prompts.append({**prompts[1], **prompts[2]})
    previous = reference.predict(**prompts[0], multimask_output=False)[2]
    prompts.append({**prompts[0], "mask_input": previous})
    for prompt in prompts:
        expected = reference.predict(**prompt, multimask_output=multimask, return_logits=True)
        actual = predictor.predict(**prompt, multimask_output=multimask, return_logits=True)
        for mine, theirs in zip(actual, expected, strict=True):
            assert_close(mine, torch.as_tensor(theirs))


def test_many_prompts_at_once_are_as_each_alone(bundle: Bundle) -> None:
    predictor = Predictor(bundle)
    predictor.set_image(synthetic((90, 160)))
    rng = np.random.default_rng(2)
    boxes = np.sort(rng.random((5, 2, 2)), axis=1).reshape(5, 4) * [160, 90, 160, 90]
    together = predictor.predict_low_res(boxes=boxes)
    for i, box in enumerate(boxes):
        _, scores, low_res = predictor.predict(box=box)
        np.testing.assert_allclose(together[0][i], low_res, rtol=0, atol=1e-4)
        np.testing.assert_allclose(together[1][i], scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("extra", [{}, CROPS, {"min_mask_region_area": 40}], ids=str)
@pytest.mark.parametrize("name", ["landscape", "portrait", "square", "tiny"])
def test_everything_mode_gives_the_same_records(
    sam: Sam, bundle: Bundle, name: str, extra: dict[str, Any]
) -> None:
    records = assert_parity(sam, bundle, synthetic(SHAPES[name]), points_per_side=8, **extra)
    assert len(records) >= 10


def test_everything_mode_on_a_large_image(sam: Sam, bundle: Bundle) -> None:
    records = assert_parity(sam, bundle, synthetic(SHAPES["large"]), points_per_side=4)
    assert len(records) >= 5


@needs_voc
@pytest.mark.parametrize("index", [0, 3])
def test_everything_mode_on_real_images(sam: Sam, bundle: Bundle, index: int) -> None:
    image = read_image(voc_images(index + 1)[index])
    records = assert_parity(sam, bundle, image, points_per_side=12, min_mask_region_area=100)
    assert len(records) >= 20


def test_without_thresholds_everything_is_kept(sam: Sam, bundle: Bundle) -> None:
    settings = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    records = assert_parity(sam, bundle, synthetic((60, 80)), points_per_side=4, **settings)
    assert len(records) == 4 * 4 * 3


@pytest.mark.parametrize("model", ["mobile_sam", "vit_b"])
def test_full_size_models(model: str, tmp_path: Path) -> None:
    export_sam(model, None, tmp_path / model, random_weights=7)
    sam, bundle = random_sam(MODELS[model], 7), Bundle.load(tmp_path / model)
    for name, graph in bundle.graphs.items():
        assert not any(bundle.manifest["graphs"][name]["engines"].values()), name
        assert slow_attention(graph.path) == [], name
    image = synthetic((120, 200))
    reference, predictor = SamPredictor(sam), Predictor(bundle)
    reference.set_image(image)
    predictor.set_image(image)
    assert_close(predictor.get_image_embedding(), reference.features)
    point = {"point_coords": np.array([[70.0, 50.0]]), "point_labels": np.array([1])}
    assert_close(predictor.predict(**point)[2], torch.as_tensor(reference.predict(**point)[2]))
    stability = {"stability_score_thresh": 0.0, "stability_score_offset": 0.01}
    records = assert_parity(sam, bundle, image, points_per_side=3, **stability)
    assert len(records) >= 3
