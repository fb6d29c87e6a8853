"""Low-res logits to masks: the same as two bilinear steps, however the work is cut up.

`tests/parity/test_resample_parity.py` compares with torch's interpolation.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks import resample, rle
from samrefine_runtime.masks.resample import bilinear_matrix
from samrefine_runtime.sam.grids import Crop
from tests.resampling import (
    CROPS,
    INPUT,
    LOW,
    SHAPES,
    Logits,
    assert_mask_like,
    resampler,
    smooth_logits,
    whole,
    windows,
)


def resized(logits: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Resize the rows bilinearly between pixel centres, in float64."""
    place = np.maximum((np.arange(length) + 0.5) * len(logits) / length - 0.5, 0)
    low = np.minimum(place.astype(int), len(logits) - 1)
    high = np.minimum(low + 1, len(logits) - 1)
    share = (place - low)[:, None]
    return np.asarray(logits[low] * (1 - share) + logits[high] * share)


def two_step_logits(low_res: Logits, image_shape: tuple[int, int]) -> NDArray[np.float64]:
    """Enlarge to the input, cut the padding off, resize to the image."""
    enlarged = resized(resized(low_res.astype(np.float64), INPUT).T, INPUT).T
    height, width = resized_shape(image_shape, INPUT)
    inside = enlarged[:height, :width]
    return resized(resized(inside, image_shape[0]).T, image_shape[1]).T


@given(st.integers(1, 64), st.integers(1, 300))
def test_matrix_rows_are_weights(size_from: int, size_to: int) -> None:
    matrix = bilinear_matrix(size_from, size_to)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert ((matrix > 0).sum(axis=1) <= 2).all()


@given(st.integers(1, 80), st.integers(1, 200))
def test_matrix_is_bilinear_between_pixel_centres(size_from: int, size_to: int) -> None:
    expected = resized(np.eye(size_from), size_to)
    tolerance = size_from * 2.0**-22
    np.testing.assert_allclose(bilinear_matrix(size_from, size_to), expected, 0, tolerance)


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
def test_logits_are_two_bilinear_steps(image_shape: tuple[int, int]) -> None:
    low_res = smooth_logits(1)
    actual = resampler(image_shape).logits(low_res)
    assert actual.shape == image_shape
    np.testing.assert_allclose(actual, two_step_logits(low_res, image_shape), atol=1e-4)


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
@pytest.mark.parametrize("threshold", [0.0, 4.0, -3.0])
def test_masks_of_whole_images(image_shape: tuple[int, int], threshold: float) -> None:
    for seed in range(4):
        low_res = smooth_logits(seed)
        assert_mask_like(two_step_logits, low_res, image_shape, whole(image_shape), threshold)


@pytest.mark.parametrize(("image_shape", "box"), CROPS, ids=str)
def test_masks_of_crops(image_shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    for seed in range(4):
        assert_mask_like(two_step_logits, smooth_logits(seed), image_shape, Crop(box, 1))


@settings(deadline=None, max_examples=60)
@given(windows())
def test_masks_of_any_window(case: tuple[Logits, tuple[int, int], Crop, float]) -> None:
    low_res, image_shape, crop, offset = case
    assert_mask_like(two_step_logits, low_res, image_shape, crop, offset=offset)


@pytest.mark.parametrize("value", [-3.0, 3.0])
@pytest.mark.parametrize(("image_shape", "box"), [((20, 30), (0, 0, 30, 20)), *CROPS], ids=str)
def test_constant_logits_fill_the_crop_or_nothing(
    image_shape: tuple[int, int], box: tuple[int, int, int, int], value: float
) -> None:
    crop = Crop(box, 0)
    counts, stability, _ = resampler(image_shape, crop).mask(
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
    dense = assert_mask_like(two_step_logits, low_res, image_shape, whole(image_shape))
    along = {"top": dense[0], "bottom": dense[-1], "left": dense[:, 0], "right": dense[:, -1]}
    assert along[side].all()
    assert not dense.all()


@pytest.mark.parametrize("pixels", [1, 37, 90, 91, 1000])
def test_strips_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    cases = [((90, 160), (0, 0, 160, 90)), *CROPS[:3]]
    for seed, (image_shape, box) in enumerate(cases):
        make = resampler(image_shape, Crop(box, 0))
        for low_res in (smooth_logits(seed), np.full((LOW, LOW), 2, np.float32)):
            whole_counts, whole_stability, _ = make.mask(low_res, 0, 1)
            with monkeypatch.context() as patch:
                patch.setattr(resample, "_STRIP_PIXELS", pixels)
                counts, stability, _ = make.mask(low_res, 0, 1)
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
