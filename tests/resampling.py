"""What the tests of mask resampling share, with torch and without."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from samrefine_runtime.masks import rle
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.grids import Crop

Logits = NDArray[np.float32]
Reference = Callable[[Logits, tuple[int, int]], NDArray[np.floating]]
"""Enlarges low-res logits (h, w) to an image (H, W) in another way."""

LOW, INPUT = 64, 256
"""Sides of the logits and of the encoder's input: a quarter of SAM's, as the small bundle's."""

SHAPES = [(90, 160), (160, 90), (100, 100), (5, 7), (1, 40), (1, 1), (300, 420), (128, 128)]
CROPS = [
    ((90, 160), (0, 0, 100, 60)),
    ((90, 160), (60, 30, 160, 90)),
    ((160, 90), (10, 0, 90, 160)),
    ((160, 90), (0, 50, 90, 120)),
    ((40, 50), (17, 3, 20, 39)),
]


def smooth_logits(seed: int) -> Logits:
    """Blobs with a few units of height, as a decoder gives them."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 4, (6, 6)).astype(np.float32)
    blobs = cv2.resize(coarse, (LOW, LOW), interpolation=cv2.INTER_CUBIC)
    return np.asarray(blobs + rng.normal(0, 0.3, (LOW, LOW)), np.float32)


def whole(image_shape: tuple[int, int]) -> Crop:
    """Return the crop that is the whole image."""
    return Crop((0, 0, image_shape[1], image_shape[0]), 0)


def resampler(image_shape: tuple[int, int], crop: Crop | None = None) -> MaskResampler:
    """Return a resampler of logits (LOW, LOW)."""
    return MaskResampler((LOW, LOW), INPUT, (crop or whole(image_shape)).box, image_shape)


def assert_mask_like(
    reference: Reference,
    low_res: Logits,
    image_shape: tuple[int, int],
    crop: Crop,
    threshold: float = 0.0,
    offset: float = 1.0,
) -> NDArray[np.bool_]:
    """Same mask and stability but for pixels whose logit is within rounding of a threshold."""
    left, top, right, bottom = crop.box
    logits = np.full(image_shape, -np.inf, np.float32)
    logits[top:bottom, left:right] = reference(low_res, (bottom - top, right - left))
    rounding = 1e-5 * max(1.0, float(np.abs(low_res).max()))
    mask, stability, _ = resampler(image_shape, crop).mask(low_res, threshold, offset)
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


@st.composite
def windows(draw: st.DrawFn) -> tuple[Logits, tuple[int, int], Crop, float]:
    """Logits that are positive in one rectangle only, which may touch any edge; an image, a crop
    of it, and an offset for the stability."""
    height, width = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    rows = sorted(draw(st.tuples(st.integers(0, LOW), st.integers(0, LOW))))
    columns = sorted(draw(st.tuples(st.integers(0, LOW), st.integers(0, LOW))))
    low_res = np.full((LOW, LOW), -5, np.float32)
    low_res[slice(*rows), slice(*columns)] = 5
    crop = Crop((left, top, right, bottom), 1)
    return low_res, (height, width), crop, draw(st.sampled_from([0.0, 1.0, 2.5]))
