"""The decoder of everything mode: halves, batch sizes, devices, and the decoder of any prompts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.sam import point_decoder
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.point_decoder import (
    Decoded,
    LowResMasks,
    PointDecoder,
    PreparedImage,
    batch_size,
    masks_at_once,
)
from samrefine_runtime.sam.predictor import Predictor
from tests.backend import on_device, short_of_memory
from tests.samples import ONE_THREAD, synthetic

POINTS = np.random.default_rng(0).random((9, 2)) * [72, 48]


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


@pytest.fixture
def decoder(bundle: Bundle) -> PointDecoder:
    return PointDecoder(bundle, session=ONE_THREAD)


@pytest.fixture
def prepared(bundle: Bundle, decoder: PointDecoder) -> PreparedImage:
    return decoder.prepare(ImageEncoder(bundle, session=ONE_THREAD).embed(synthetic((48, 72))))


def assert_same(actual: Decoded, expected: Decoded) -> None:
    assert np.array_equal(actual.owners, expected.owners)
    assert np.allclose(actual.scores, expected.scores, atol=1e-5)
    scale = np.abs(expected.logits).max()
    assert np.allclose(actual.logits, expected.logits, atol=1e-5 * scale)


def test_the_decoder_of_any_prompts_gives_the_same(
    bundle: Bundle, decoder: PointDecoder, prepared: PreparedImage
) -> None:
    predictor = Predictor(bundle, session=ONE_THREAD)
    predictor.set_image(synthetic((48, 72)))
    logits, scores = predictor.predict_low_res(POINTS[:, None], np.ones((9, 1)))
    threshold = float(np.sort(scores, axis=None)[13:15].mean())  # far from any score
    keep = scores > threshold
    expected = Decoded([LowResMasks(logits[keep], 13)], scores[keep], np.nonzero(keep)[0])
    assert_same(decoder.decode(prepared, POINTS, threshold), expected)


@pytest.mark.parametrize("size", [1, 4])
def test_batch_size_does_not_change_the_logits(
    decoder: PointDecoder, prepared: PreparedImage, size: int
) -> None:
    at_once = decoder.decode(prepared, POINTS, -np.inf)
    starts = range(0, len(POINTS), size)
    parts = [decoder.decode(prepared, POINTS[i : i + size], -np.inf) for i in starts]
    owners = [part.owners + start for part, start in zip(parts, starts, strict=True)]
    together = Decoded(
        [low_res for part in parts for low_res in part.parts],
        np.concatenate([part.scores for part in parts]),
        np.concatenate(owners),
    )
    assert_same(together, at_once)


def test_nothing_is_upscaled_where_nothing_survives(
    decoder: PointDecoder, prepared: PreparedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder._masks, "run", None)
    decoded = decoder.decode(prepared, POINTS, np.inf)
    assert decoded.parts == []
    assert decoded.scores.shape == decoded.owners.shape == (0,)


def test_parts_of_a_device_fit_what_finishes_them(
    bundle: Bundle,
    decoder: PointDecoder,
    prepared: PreparedImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = decoder.decode(prepared, POINTS, -np.inf)
    monkeypatch.setattr(point_decoder, "_FINISHED_PIXELS", 4 * 512**2)
    with on_device() as session:
        on_it = PointDecoder(bundle, session=session)
        decoded = on_it.decode(on_it.prepare(prepared.embedding), POINTS, -np.inf)
    assert [part.size for part in decoded.parts] == [4] * 6 + [3]
    fetched = [part._replace(logits=part.logits.numpy()) for part in decoded.parts]
    assert_same(decoded._replace(parts=fetched), expected)


def test_a_batch_too_large_is_halved(
    bundle: Bundle,
    decoder: PointDecoder,
    prepared: PreparedImage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = decoder.decode(prepared, POINTS, -np.inf)
    with short_of_memory("point_coords", 3) as (session, tried), caplog.at_level(logging.WARNING):
        limited = PointDecoder(bundle, session=session)
        ready = limited.prepare(prepared.embedding)
        assert_same(limited.decode(ready, POINTS, -np.inf), expected)
    assert tried == [9, 4, 2, 2, 5, 2, 3]
    assert "out of memory at 9 prompts per batch, halving it" in caplog.text


def test_a_single_prompt_that_does_not_fit_is_an_error(
    bundle: Bundle, prepared: PreparedImage
) -> None:
    with short_of_memory("point_coords", 0) as (session, tried):
        limited = PointDecoder(bundle, session=session)
        ready = limited.prepare(prepared.embedding)
        with pytest.raises(MemoryError):
            limited.decode(ready, POINTS, -np.inf)
    assert tried == [9, 4, 2, 1]


@pytest.mark.parametrize(
    ("image_shape", "masks"),
    [
        ((1, 1), 256),
        ((375, 500), 256),
        ((512, 512), 256),
        ((513, 2), 64),
        ((2, 1024), 64),
        ((9000, 9000), 1),
    ],
)
def test_masks_at_once(image_shape: tuple[int, int], masks: int) -> None:
    assert masks_at_once(image_shape) == masks


def test_memory_sets_the_batch(bundle: Bundle) -> None:
    sam = bundle.require_sam()
    assert batch_size(sam, 1) >= 1
    assert batch_size(sam, 400) == pytest.approx(2 * batch_size(sam, 200), abs=1)
