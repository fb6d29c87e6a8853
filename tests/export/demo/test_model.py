"""The demo networks: shapes, sizes, decoding and loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samrefine_export.demo.model import build_demo_classifier, build_demo_sam
from samrefine_export.demo.scenes import CLASSES
from samrefine_export.demo.train_sam import decode, mask_loss


def test_sam_has_the_shapes_of_a_sam() -> None:
    sam = build_demo_sam(128).eval()
    assert sam.image_encoder.img_size == 128
    record = {
        "image": torch.rand(3, 128, 96) * 255,
        "original_size": (64, 48),
        "point_coords": torch.tensor([[[40.0, 50.0]], [[10.0, 90.0]]]),
        "point_labels": torch.ones(2, 1),
    }
    with torch.no_grad():
        (out,) = sam([record], multimask_output=True)
    assert out["masks"].shape == (2, 3, 64, 48)
    assert out["iou_predictions"].shape == (2, 3)
    assert out["low_res_logits"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 51), (33, 120)])
def test_classifier_takes_any_size_and_its_logits_are_the_mean_of_its_maps(
    height: int, width: int
) -> None:
    model = build_demo_classifier().eval()
    with torch.no_grad():
        cam, logits = model(torch.randn(2, 3, height, width))
    assert cam.shape == (2, len(CLASSES), -(-height // 8), -(-width // 8))
    np.testing.assert_allclose(cam.mean((2, 3)), logits, rtol=1e-5, atol=1e-6)


def test_everything_fits_the_wheel() -> None:
    models = (build_demo_sam(), build_demo_classifier())
    assert sum(p.numel() for m in models for p in m.parameters()) * 4 <= 6.0e6


def test_decoding_many_images_at_once_equals_segment_anything() -> None:
    torch.manual_seed(0)
    sam = build_demo_sam(64)
    embedding = torch.randn(2, 96, 8, 8)
    points = torch.rand(6, 1, 2) * 64, torch.ones(6, 1)
    with torch.no_grad():
        logits, quality = decode(sam, embedding, points)
        sparse, dense = sam.prompt_encoder(points, None, None)
        place = sam.prompt_encoder.get_dense_pe()
        for i in range(2):
            mine = slice(3 * i, 3 * i + 3)
            expected = sam.mask_decoder.predict_masks(
                embedding[i : i + 1], place, sparse[mine], dense[mine]
            )
            np.testing.assert_allclose(logits[mine], expected[0], atol=1e-5)
            np.testing.assert_allclose(quality[mine], expected[1], atol=1e-5)


def test_loss_falls_to_the_best_mask_only() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4, :] = 1
    right = (target * 2 - 1) * 20
    logits = torch.cat([right, -right, torch.zeros_like(right)], dim=1)
    quality = torch.tensor([[1.0, 0.0, 0.0]])
    assert mask_loss(logits, quality, target, torch.ones(1, 1)) < 1e-3
    assert mask_loss(logits[:, 1:], quality[:, 1:], target, torch.ones(1, 1)) > 0.5
