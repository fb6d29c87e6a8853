"""Low-res logits to masks: the same as torch's two bilinear steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks.resample import bilinear_matrix
from samrefine_runtime.sam.grids import Crop
from tests.resampling import (
    CROPS,
    INPUT,
    SHAPES,
    Logits,
    assert_mask_like,
    resampler,
    smooth_logits,
    whole,
    windows,
)


def torch_logits(low_res: Logits, image_shape: tuple[int, int]) -> Logits:
    """`Sam.postprocess_masks`: to the input's size, cut the padding off, to the image's size."""
    logits = torch.from_numpy(low_res)[None, None]
    logits = F.interpolate(logits, (INPUT, INPUT), mode="bilinear", align_corners=False)
    height, width = resized_shape(image_shape, INPUT)
    logits = logits[..., :height, :width]
    resized = F.interpolate(logits, image_shape, mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())


def torch_matrix(size_from: int, size_to: int) -> NDArray[np.float32]:
    eye = torch.eye(size_from)[None, None]
    resized = F.interpolate(eye, (size_to, size_from), mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())


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
        low_res = smooth_logits(seed)
        assert_mask_like(torch_logits, low_res, image_shape, whole(image_shape), threshold)


@pytest.mark.parametrize(("image_shape", "box"), CROPS, ids=str)
def test_masks_of_crops_are_torchs(
    image_shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    for seed in range(4):
        assert_mask_like(torch_logits, smooth_logits(seed), image_shape, Crop(box, 1))


@settings(deadline=None, max_examples=60)
@given(windows())
def test_masks_of_any_window_are_torchs(
    case: tuple[Logits, tuple[int, int], Crop, float],
) -> None:
    low_res, image_shape, crop, offset = case
    assert_mask_like(torch_logits, low_res, image_shape, crop, offset=offset)
