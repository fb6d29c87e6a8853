"""The trained demo model: the embedded bundle returns what its torch weights return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samrefine_export.demo.model import build_demo_sam
from samrefine_export.sam.reference import everything
from samrefine_export.third_party import Sam
from samrefine_rt.demo import IMAGES
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.sam.generator import MaskGenerator
from tests.parity.records import assert_same_records
from tests.samples import needs_voc, voc_images

WEIGHTS = Path(__file__).parents[1] / "data" / "demo_sam.pt"
SCENES = sorted(IMAGES.glob("*.jpg"))
SETTINGS: dict[str, Any] = {
    "points_per_side": 12,
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.6,
    "stability_score_offset": 0.3,
    "box_nms_thresh": 0.7,
}


@pytest.fixture(scope="module")
def sam() -> Sam:
    if not WEIGHTS.is_file():
        pytest.skip("the weights are not in the source distribution")
    model = build_demo_sam()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()


def assert_parity(sam: Sam, image: RgbImage, **extra: Any) -> int:
    settings = {**SETTINGS, **extra}
    actual = MaskGenerator(Bundle.load("demo"), **settings).records(image)
    expected = everything(sam, image, **settings)
    thresholds = {
        "predicted_iou": settings["pred_iou_thresh"],
        "stability_score": settings["stability_score_thresh"],
    }
    assert_same_records(actual, expected, thresholds)
    return len(actual)


@pytest.mark.parametrize("scene", SCENES[:3], ids=lambda path: path.stem)
def test_masks_of_procedural_scenes(sam: Sam, scene: Path) -> None:
    assert assert_parity(sam, read_image(scene)) >= 10


def test_masks_with_crops_and_small_regions(sam: Sam) -> None:
    crops = {"crop_n_layers": 1, "points_per_side": 8, "crop_n_points_downscale_factor": 2}
    assert assert_parity(sam, read_image(SCENES[0]), min_mask_region_area=60, **crops) >= 10


@needs_voc
@pytest.mark.parametrize("index", [5, 9])
def test_masks_of_real_images(sam: Sam, index: int) -> None:
    assert assert_parity(sam, read_image(voc_images(index + 1)[index])) >= 5
