"""Everything mode on the small bundle: what may and what must not change its masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import BundleError, ImageError, SettingsError
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.grids import crops, point_grid
from samrefine_runtime.sam.prompts import coarse_to_fine
from samrefine_runtime.sam.settings import GeneratorSettings
from tests.backend import on_device
from tests.samples import ONE_THREAD, synthetic

IMAGE = synthetic((48, 72))


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


def make(bundle: Bundle, **settings: Any) -> MaskGenerator:
    return MaskGenerator(bundle, session=ONE_THREAD, **settings)


def assert_same(actual: Masks, expected: Masks, stability: float = 1e-5) -> None:
    assert len(actual) == len(expected)
    for field in fields(Masks):
        name = field.name
        mine, theirs = getattr(actual, name), getattr(expected, name)
        tolerance = stability if name == "stability_score" else 1e-5
        assert np.allclose(mine, theirs, rtol=0, atol=tolerance), name


def test_masks_pass_the_thresholds_best_first(bundle: Bundle) -> None:
    masks = make(bundle).generate(IMAGE)
    assert len(masks) >= 10
    assert len(np.unique(masks.boxes, axis=0)) >= 3
    assert (masks.predicted_iou > bundle.defaults["pred_iou_thresh"]).all()
    assert (masks.stability_score >= 0.5).all()
    assert (np.diff(masks.predicted_iou) <= 0).all()
    assert (masks.crop_boxes == [0, 0, 72, 48]).all()
    grid = point_grid(4) * [72, 48]
    assert {tuple(p) for p in masks.point_coords} <= {tuple(p) for p in grid}


def test_each_threshold_drops_masks(bundle: Bundle) -> None:
    everything = make(bundle).generate(IMAGE)
    better = make(bundle, pred_iou_thresh=float(np.median(everything.predicted_iou)))
    assert 0 < len(better.generate(IMAGE)) < len(everything)
    steadier = make(bundle, stability_score_thresh=float(np.median(everything.stability_score)))
    assert 0 < len(steadier.generate(IMAGE)) < len(everything)
    apart = make(bundle, box_nms_thresh=0.3).generate(IMAGE)
    assert 0 < len(apart) < len(everything)
    all_of_them = make(bundle, pred_iou_thresh=0, stability_score_thresh=0).generate(IMAGE)
    assert len(all_of_them) == 3 * 16
    assert np.array_equal(np.isnan(all_of_them.stability_score), all_of_them.areas == 0)


def test_kept_masks_do_not_overlap_more_than_allowed(bundle: Bundle) -> None:
    boxes = make(bundle, box_nms_thresh=0.5).generate(IMAGE).boxes.astype(float)
    assert len(boxes) >= 2
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
            overlap = np.prod(np.maximum(high - low, 0))
            union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
            assert overlap <= 0.5 * union + 1e-6


@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_batch_size_does_not_change_the_masks(bundle: Bundle, batch: int) -> None:
    masks = make(bundle, points_per_batch=batch).generate(IMAGE)
    # A product of another size rounds otherwise: of some hundred pixels one may change sides.
    assert_same(masks, make(bundle).generate(IMAGE), stability=0.01)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
        {"prompts": "hierarchical", "min_mask_region_area": 20},
    ],
    ids=str,
)
def test_a_device_finds_the_same_masks(bundle: Bundle, extra: dict[str, Any]) -> None:
    expected = make(bundle, **extra).generate(IMAGE)
    with on_device() as session:
        actual = MaskGenerator(bundle, session=session, **extra).generate(IMAGE)
    assert len(expected) >= 10
    # Here and there a logit is within rounding of a threshold
    assert_same(actual, expected, stability=0.01)


def test_no_mask_is_finished_on_the_host_where_a_device_can(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MaskResampler, "mask")
    with on_device() as session:
        assert len(MaskGenerator(bundle, session=session).generate(IMAGE)) >= 10
    with pytest.raises(AttributeError, match="mask"):
        make(bundle).generate(IMAGE)


def test_a_second_image_leaves_no_trace(bundle: Bundle) -> None:
    generator = make(bundle)
    before = generator.generate(IMAGE)
    generator.generate(synthetic((60, 31), seed=1))
    assert_same(generator.generate(IMAGE), before)


def test_progress_counts_every_prompt(bundle: Bundle) -> None:
    calls: list[tuple[int, int]] = []
    make(bundle, points_per_batch=6).generate(IMAGE, progress=lambda *call: calls.append(call))
    assert calls == [(6, 16), (12, 16), (16, 16)]
    calls.clear()
    crops = make(bundle, points_per_batch=16, crop_n_layers=1, crop_n_points_downscale_factor=2)
    crops.generate(IMAGE, progress=lambda *call: calls.append(call))
    assert calls == [(16, 32), (20, 32), (24, 32), (28, 32), (32, 32)]


def test_region_restricts_the_prompts(bundle: Bundle) -> None:
    region = np.zeros(IMAGE.shape[:2], bool)
    region[:, :36] = True
    everything = make(bundle).generate(IMAGE)
    inside = everything.select(np.flatnonzero(everything.point_coords[:, 0] < 36))
    assert 0 < len(inside) < len(everything)
    calls: list[tuple[int, int]] = []
    actual = make(bundle).generate(IMAGE, region=region, progress=lambda *c: calls.append(c))
    assert_same(actual, inside)
    assert calls[-1] == (8, 8)


def test_region_applies_to_crops(bundle: Bundle) -> None:
    region = np.zeros(IMAGE.shape[:2], bool)
    region[:24, :36] = True
    calls: list[tuple[int, int]] = []
    generator = make(bundle, crop_n_layers=1)
    masks = generator.generate(IMAGE, region=region, progress=lambda *c: calls.append(c))
    assert len(masks) > 0
    assert (masks.point_coords < [36, 24]).all()
    inside = 0
    for (left, top, right, bottom), _ in crops((48, 72), 1, 512 / 1500):
        points = point_grid(4) * [right - left, bottom - top] + [left, top]
        inside += int((points < [36, 24]).all(axis=1).sum())
    assert calls[-1] == (inside, inside)


def test_full_region_is_no_region(bundle: Bundle) -> None:
    whole = np.ones(IMAGE.shape[:2], bool)
    assert_same(make(bundle).generate(IMAGE, region=whole), make(bundle).generate(IMAGE))


def test_empty_region_gives_no_masks_and_needs_no_time(bundle: Bundle) -> None:
    calls: list[tuple[int, int]] = []
    generator = make(bundle, crop_n_layers=1, min_mask_region_area=10)
    del generator.encoder  # nothing is encoded
    nowhere = np.zeros(IMAGE.shape[:2], bool)
    masks = generator.generate(IMAGE, region=nowhere, progress=lambda *c: calls.append(c))
    assert len(masks) == 0
    assert masks.image_shape == IMAGE.shape[:2]
    assert calls == []


def test_region_of_another_size(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match=r"region is \(9, 9\) bool, expected \(48, 72\)"):
        make(bundle).generate(IMAGE, region=np.ones((9, 9), bool))


def test_hierarchical_asks_again_where_no_mask_explains_the_point(bundle: Bundle) -> None:
    coarse, fine = coarse_to_fine(point_grid(8))
    first = make(bundle, point_grids=[coarse]).generate(IMAGE)
    height, width = IMAGE.shape[:2]
    small = [first.dense(i) for i in np.flatnonzero(first.areas <= height * width / 2)]
    assert small
    x, y = (fine * [width, height]).astype(int).T
    asked = fine[~np.any(small, axis=0)[y, x]]
    assert 0 < len(asked) < len(fine)
    calls: list[tuple[int, int]] = []
    generator = make(bundle, prompts="hierarchical", points_per_side=8, points_per_batch=16)
    actual = generator.generate(IMAGE, progress=lambda *call: calls.append(call))
    assert_same(actual, make(bundle, point_grids=[np.concatenate([coarse, asked])]).generate(IMAGE))
    assert calls[0] == (16, 64)
    assert calls[-1] == (16 + len(asked), 16 + len(asked))


def test_hierarchical_with_crops_and_a_single_point(bundle: Bundle) -> None:
    assert len(make(bundle, prompts="hierarchical", crop_n_layers=1).generate(IMAGE)) > 0
    single = make(bundle, prompts="hierarchical", points_per_side=1).generate(IMAGE)
    assert_same(single, make(bundle, points_per_side=1).generate(IMAGE))


def test_thresholds_no_mask_passes(bundle: Bundle) -> None:
    assert len(make(bundle, pred_iou_thresh=5.0).generate(IMAGE)) == 0
    generator = make(bundle, stability_score_thresh=1.1, crop_n_layers=1, min_mask_region_area=5)
    assert len(generator.generate(IMAGE)) == 0


def test_masks_of_crops_stay_in_them(bundle: Bundle) -> None:
    """Boxes at an edge of the crop that is no edge of the image are dropped."""
    sam = bundle.require_sam()
    small = replace(bundle, sam=replace(sam, mask_threshold=2 * sam.mask_threshold))
    generator = make(small, crop_n_layers=1, pred_iou_thresh=0, stability_score_thresh=0.01)
    masks = generator.generate(synthetic((240, 320), seed=1))
    found = {tuple(box) for box in masks.crop_boxes.tolist()}
    assert found <= {crop.box for crop in crops((240, 320), 1, 512 / 1500)}
    assert len(found) >= 2
    for i in range(len(masks)):
        y, x = np.nonzero(masks.dense(i))
        left, top, right, bottom = masks.crop_boxes[i]
        assert left <= x.min() and x.max() < right and top <= y.min() and y.max() < bottom
        for edge, value, end in ((left, x.min(), 0), (top, y.min(), 0)):
            assert edge == end or value - edge > 20
        for edge, value, end in ((right, x.max(), 320), (bottom, y.max(), 240)):
            assert edge == end or edge - value > 20
    areas = np.prod(masks.crop_boxes[:, 2:] - masks.crop_boxes[:, :2], axis=1)
    assert (np.diff(areas) >= 0).all(), "small crops come first"


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 700), (700, 1)], ids=str)
def test_images_of_a_few_pixels(bundle: Bundle, shape: tuple[int, int]) -> None:
    masks = make(bundle, crop_n_layers=2, min_mask_region_area=1).generate(synthetic(shape))
    assert masks.image_shape == shape


def test_own_point_grids(bundle: Bundle) -> None:
    grid = np.array([[0.25, 0.5], [0.75, 0.5]])
    masks = make(bundle, point_grids=[grid], points_per_batch=1).generate(IMAGE)
    assert {tuple(p) for p in masks.point_coords} <= {(18.0, 24.0), (54.0, 24.0)}
    same = make(bundle, point_grids=[point_grid(4)]).generate(IMAGE)
    assert_same(same, make(bundle).generate(IMAGE))


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_records_have_the_mode_of_the_settings(bundle: Bundle, mode: str) -> None:
    records = make(bundle, output_mode=mode).records(IMAGE)
    assert len(records) >= 10
    kinds: Mapping[str, Any] = {"uncompressed_rle": list, "coco_rle": str}
    for record in records:
        segmentation = record["segmentation"]
        if mode == "binary_mask":
            assert segmentation.shape == IMAGE.shape[:2]
        else:
            assert isinstance(segmentation["counts"], kinds[mode])


def test_small_regions_of_generated_masks(bundle: Bundle) -> None:
    raw = make(bundle).generate(IMAGE)
    clean = make(bundle, min_mask_region_area=30, crop_nms_thresh=1.0).generate(IMAGE)
    assert 0 < len(clean) <= len(raw)

    def smallest_part(mask: NDArray[np.bool_]) -> int:
        parts = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        return int(parts[2][1:, cv2.CC_STAT_AREA].min())

    assert min(smallest_part(raw.dense(i)) for i in range(len(raw))) < 30
    for i in range(len(clean)):
        mask = clean.dense(i)
        assert smallest_part(mask) >= 30 or clean.areas[i] < 30
        assert smallest_part(~mask) >= 30


def test_settings_come_from_keywords_then_bundle_then_sam(bundle: Bundle) -> None:
    chosen = GeneratorSettings.of(bundle, pred_iou_thresh=0.77)
    assert chosen.pred_iou_thresh == 0.77
    assert chosen.points_per_side == 4
    assert chosen.crop_overlap_ratio == 512 / 1500
    grids = GeneratorSettings.of(bundle, point_grids=[np.full((1, 2), 0.5)])
    assert grids.points_per_side is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"points_per_side": 0}, "points_per_side is 0, expected a whole number from 1 to 256"),
        ({"points_per_side": 2.5}, "points_per_side is 2.5, expected a whole number"),
        ({"points_per_side": "8"}, "points_per_side is '8', expected a whole number"),
        ({"points_per_batch": 0}, "points_per_batch is 0"),
        ({"points_per_batch": None}, "points_per_batch is None"),
        ({"pred_iou_thresh": None}, "pred_iou_thresh is None, expected a number"),
        ({"pred_iou_thresh": float("nan")}, "pred_iou_thresh is nan"),
        ({"stability_score_offset": -1}, "stability_score_offset is -1, expected a number from"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1"),
        ({"crop_overlap_ratio": 1.5}, "crop_overlap_ratio is 1.5, expected a number from 0 to 1"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor is 0"),
        ({"min_mask_region_area": -3}, "min_mask_region_area is -3"),
        ({"output_mode": "png"}, "output_mode is 'png', expected one of binary_mask"),
        ({"points_per_side": None}, "exactly one of points_per_side and point_grids is needed"),
        (
            {"points_per_side": 4, "crop_n_layers": 3, "crop_n_points_downscale_factor": 2},
            r"grid of crop layer 3 is \(0, 2\), expected points \(N, 2\)",
        ),
        ({"point_grids": [np.zeros((1, 2))]}, "exactly one of points_per_side and point_grids"),
        (
            {
                "point_grids": [np.zeros((1, 2))],
                "points_per_side": None,
                "crop_n_layers": 1,
            },
            r"point_grids has 1 grids, expected one per crop layer \(2\)",
        ),
        (
            {"point_grids": [np.zeros((2, 3))], "points_per_side": None},
            r"point_grids\[0\] is \(2, 3\) float64, expected points \(N, 2\)",
        ),
    ],
    ids=str,
)
def test_impossible_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        GeneratorSettings(**setting)


def test_unknown_setting(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="unknown setting 'points_per_sides', expected one of"):
        make(bundle, points_per_sides=4)


def test_bundle_with_unusable_defaults(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="points_per_side is 'many'"):
        make(replace(bundle, defaults={"points_per_side": "many"}))


def test_bundle_without_sam(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"holds no SAM; make one with export sam"):
        make(replace(bundle, sam=None))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_images_of_another_layout(bundle: Bundle, image: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"expected \(H, W, 3\) uint8 RGB"):
        make(bundle).generate(image)
