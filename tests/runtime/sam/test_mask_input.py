"""Masks as prompts lie where SAM's own low-res masks do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.grids import whole_image
from samrefine_runtime.sam.mask_input import low_res_logits
from samrefine_runtime.sam.predictor import Predictor
from samrefine_runtime.segment import Segmenter
from tests.samples import ONE_THREAD, synthetic


@pytest.mark.parametrize("image_shape", [(90, 160), (160, 90), (128, 128), (700, 1100)])
def test_logits_give_the_mask_back(small_bundle: Path, image_shape: tuple[int, int]) -> None:
    sam = Bundle.load(small_bundle).require_sam()
    height, width = image_shape
    mask = np.zeros(image_shape, bool)
    mask[height // 4 : height // 2, width // 3 : (3 * width) // 4] = True
    logits = low_res_logits(mask, sam)
    assert logits.shape == (1, *sam.low_res_shape) and logits.dtype == np.float32
    box = whole_image(image_shape).box
    resampler = MaskResampler(sam.low_res_shape, sam.input_side, box, image_shape)
    back = resampler.logits(logits[0]) > 0
    assert (back & mask).sum() / (back | mask).sum() > 0.9


class _Empty(ImageEncoder):
    """An encoder that is false where truth is asked, as a cache without entries is."""

    def __init__(self, encoder: ImageEncoder):
        self.sam, self.runs_on, self._session = encoder.sam, encoder.runs_on, encoder._session

    def __len__(self) -> int:
        return 0


def test_an_encoder_is_shared(small_bundle: Path) -> None:
    generator = MaskGenerator(small_bundle, session=ONE_THREAD)
    shared = _Empty(generator.encoder)
    assert Predictor(small_bundle, session=ONE_THREAD, encoder=shared).encoder is shared
    segmenter = Segmenter(small_bundle, session=ONE_THREAD, encoder=shared)
    assert segmenter.predictor.encoder is shared


def test_other_settings_on_the_same_graphs(lively_bundle: Path) -> None:
    image = synthetic((48, 72))
    first = MaskGenerator(lively_bundle, session=ONE_THREAD)
    other = first.with_settings(points_per_side=6, prompts="hierarchical")
    assert other.decoder is first.decoder and first.settings.points_per_side == 4
    expected = MaskGenerator(
        lively_bundle, points_per_side=6, prompts="hierarchical", session=ONE_THREAD
    ).generate(image)
    assert other.generate(image).to_records("coco_rle") == expected.to_records("coco_rle")
