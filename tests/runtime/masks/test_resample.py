"""Low-res logits to masks: the same as torch's two bilinear steps, however the work is cut up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks import resample, rle
from samrefine_runtime.masks.resample import MaskResampler, bilinear_matrix
from samrefine_runtime.sam.grids import Crop

LOW, INPUT = 32, 128
"""sides of the logits and of the encoder's input: SAM's ratio at an eighth of its size"""

SHAPES = [(90, 160), (160, 90), (100, 100), (5, 7), (1, 40), (1, 1), (300, 420), (128, 128)]
CROPS = [
    ((90, 160), (0, 0, 100, 60)),
    ((90, 160), (60, 30, 160, 90)),
    ((160, 90), (10, 0, 90, 160)),
    ((160, 90), (0, 50, 90, 120)),
    ((40, 50), (17, 3, 20, 39)),
]


def torch_logits(low_res: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """`Sam.postprocess_masks`: to the input's size, cut the padding off, to the image's size."""
    logits = torch.from_numpy(low_res)[None, None]
    logits = F.interpolate(logits, (INPUT, INPUT), mode="bilinear", align_corners=False)
    height, width = resized_shape(size, INPUT)
    logits = logits[..., :height, :width]
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def smooth_logits(seed: int) -> NDArray[np.float32]:
    """Blobs with a few units of height, as a decoder gives them."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 4, (1, 1, 6, 6)).astype(np.float32))
    blobs = F.interpolate(coarse, (LOW, LOW), mode="bicubic", align_corners=False)
    return blobs[0, 0].numpy() + rng.normal(0, 0.3, (LOW, LOW)).astype(np.float32)


def whole(image_shape: tuple[int, int]) -> Crop:
    return Crop((0, 0, image_shape[1], image_shape[0]), 0)


def resampler(image_shape: tuple[int, int], crop: Crop | None = None) -> MaskResampler:
    return MaskResampler((LOW, LOW), INPUT, crop or whole(image_shape), image_shape)


def assert_mask_like_torch(
    low_res: NDArray[np.float32],
    image_shape: tuple[int, int],
    crop: Crop,
    threshold: float = 0.0,
    offset: float = 1.0,
) -> NDArray[np.bool_]:
    """Same mask and stability but for pixels whose logit is within rounding of a threshold."""
    left, top, right, bottom = crop.box
    logits = np.full(image_shape, -np.inf, np.float32)
    logits[top:bottom, left:right] = torch_logits(low_res, (bottom - top, right - left))
    rounding = 1e-5 * max(1.0, float(np.abs(low_res).max()))
    mask, stability = resampler(image_shape, crop).mask(low_res, threshold, offset)
    dense = rle.decode(mask, image_shape)
    unclear = np.abs(logits - threshold) <= rounding
    assert np.array_equal(dense | unclear, (logits > threshold) | unclear)
    assert np.array_equal(mask, rle.encode(dense)), "runs are not in their shortest form"
    above = [np.count_nonzero(logits > threshold + offset + d) for d in (rounding, -rounding)]
    below = [np.count_nonzero(logits > threshold - offset + d) for d in (rounding, -rounding)]
    if below[1] == 0:
        assert np.isnan(stability)
    elif below[0] > 0:
        assert above[0] / below[1] - 1e-6 <= stability <= above[1] / below[0] + 1e-6
    return dense


def torch_matrix(size_from: int, size_to: int) -> NDArray[np.float32]:
    eye = torch.eye(size_from)[None, None]
    resized = F.interpolate(eye, (size_to, size_from), mode="bilinear", align_corners=False)
    return resized[0, 0].numpy()


@given(st.integers(1, 80), st.integers(1, 200))
def test_matrix_is_torchs_interpolation(size_from: int, size_to: int) -> None:
    """But for the last bit of a position, where a processor has no fused multiply-add."""
    expected = torch_matrix(size_from, size_to)
    tolerance = size_from * 2.0**-23
    np.testing.assert_allclose(bilinear_matrix(size_from, size_to), expected, 0, tolerance)


@pytest.mark.parametrize(("size_from", "size_to"), [(256, 1024), (1024, 3000), (683, 375), (7, 1)])
def test_matrix_at_sams_sizes(size_from: int, size_to: int) -> None:
    expected = torch_matrix(size_from, size_to)
    tolerance = size_from * 2.0**-23
    np.testing.assert_allclose(bilinear_matrix(size_from, size_to), expected, 0, tolerance)


@given(st.integers(1, 64), st.integers(1, 300))
def test_matrix_rows_are_weights(size_from: int, size_to: int) -> None:
    matrix = bilinear_matrix(size_from, size_to)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert ((matrix > 0).sum(axis=1) <= 2).all()


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
def test_logits_are_torchs(image_shape: tuple[int, int]) -> None:
    low_res = smooth_logits(1)
    actual = resampler(image_shape).logits(low_res)
    assert actual.shape == image_shape
    np.testing.assert_allclose(actual, torch_logits(low_res, image_shape), atol=3e-5)


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
@pytest.mark.parametrize("threshold", [0.0, 4.0, -3.0])
def test_masks_of_whole_images_are_torchs(image_shape: tuple[int, int], threshold: float) -> None:
    for seed in range(4):
        assert_mask_like_torch(smooth_logits(seed), image_shape, whole(image_shape), threshold)


@pytest.mark.parametrize(("image_shape", "box"), CROPS, ids=str)
def test_masks_of_crops_are_torchs(
    image_shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    for seed in range(4):
        assert_mask_like_torch(smooth_logits(seed), image_shape, Crop(box, 1))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_masks_of_any_window_are_torchs(data: st.DataObject) -> None:
    """Logits that are positive in one rectangle only, which may touch any edge."""
    height, width = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = (
        data.draw(st.integers(left + 1, width)),
        data.draw(st.integers(top + 1, height)),
    )
    rows = sorted(data.draw(st.tuples(st.integers(0, LOW), st.integers(0, LOW))))
    columns = sorted(data.draw(st.tuples(st.integers(0, LOW), st.integers(0, LOW))))
    low_res = np.full((LOW, LOW), -5, np.float32)
    low_res[slice(*rows), slice(*columns)] = 5
    crop = Crop((left, top, right, bottom), 1)
    offset = data.draw(st.sampled_from([0.0, 1.0, 2.5]))
    assert_mask_like_torch(low_res, (height, width), crop, offset=offset)


@pytest.mark.parametrize("value", [-3.0, 3.0])
@pytest.mark.parametrize(("image_shape", "box"), [((20, 30), (0, 0, 30, 20)), *CROPS], ids=str)
def test_constant_logits_fill_the_crop_or_nothing(
    image_shape: tuple[int, int], box: tuple[int, int, int, int], value: float
) -> None:
    crop = Crop(box, 0)
    counts, stability = resampler(image_shape, crop).mask(
        np.full((LOW, LOW), value, np.float32), 0, 1
    )
    expected = np.zeros(image_shape, bool)
    expected[box[1] : box[3], box[0] : box[2]] = value > 0
    assert np.array_equal(counts, rle.encode(expected))
    assert stability == 1 if value > 0 else np.isnan(stability)


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_masks_that_touch_an_edge(side: str) -> None:
    image_shape = (90, 160)
    low_res = np.full((LOW, LOW), -4, np.float32)
    edge = {"top": np.s_[:3], "bottom": np.s_[12:], "left": np.s_[:, :3], "right": np.s_[:, -3:]}
    low_res[edge[side]] = 4
    dense = assert_mask_like_torch(low_res, image_shape, whole(image_shape))
    along = {"top": dense[0], "bottom": dense[-1], "left": dense[:, 0], "right": dense[:, -1]}
    assert along[side].all()
    assert not dense.all()


@pytest.mark.parametrize("pixels", [1, 37, 90, 91, 1000])
def test_strips_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    cases = [((90, 160), (0, 0, 160, 90)), *CROPS[:3]]
    for seed, (image_shape, box) in enumerate(cases):
        make = resampler(image_shape, Crop(box, 0))
        for low_res in (smooth_logits(seed), np.full((LOW, LOW), 2, np.float32)):
            whole_counts, whole_stability = make.mask(low_res, 0, 1)
            with monkeypatch.context() as patch:
                patch.setattr(resample, "_STRIP_PIXELS", pixels)
                counts, stability = make.mask(low_res, 0, 1)
            assert np.array_equal(counts, whole_counts)
            assert stability == whole_stability


def test_only_the_window_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    apply = resample.Band.apply

    def counting(
        self: resample.Band, values: NDArray[np.float32], start: int, stop: int
    ) -> NDArray[np.float32]:
        computed.append((stop - start) * values.shape[1])
        return apply(self, values, start, stop)

    monkeypatch.setattr(resample.Band, "apply", counting)
    make = resampler((1000, 1000))
    low_res = np.full((LOW, LOW), -5, np.float32)
    assert len(make.mask(low_res, 0, 1).counts) == 1
    assert computed == []
    low_res[10:12, 20:22] = 5
    assert rle.area(make.mask(low_res, 0, 1).counts) > 0
    assert sum(computed) < 0.05 * 1000 * 1000
