"""The decoder of everything mode: halves, batch sizes, and the one graph that does both parts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime import backends
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.point_decoder import Decoded, PointDecoder, PreparedImage, batch_size
from tests.backend import short_of_memory
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


def test_the_single_graph_gives_the_same(
    bundle: Bundle, decoder: PointDecoder, prepared: PreparedImage
) -> None:
    threshold = float(np.median(decoder.decode(prepared, POINTS, -np.inf).scores))
    outputs = backends.open(bundle.graph("everything"), ONE_THREAD).run(
        {
            "image_embeddings": prepared.embedding.features,
            "point_coords": prepared.embedding.to_input(POINTS),
            "pred_iou_thresh": np.array(threshold, np.float32),
        }
    )
    names = ("low_res_masks", "iou_predictions", "point_index")
    decoded = decoder.decode(prepared, POINTS, threshold)
    assert 0 < len(decoded.scores) < 27
    assert_same(Decoded(*(outputs[name] for name in names)), decoded)


@pytest.mark.parametrize("size", [1, 4])
def test_batch_size_does_not_change_the_logits(
    decoder: PointDecoder, prepared: PreparedImage, size: int
) -> None:
    at_once = decoder.decode(prepared, POINTS, -np.inf)
    starts = range(0, len(POINTS), size)
    parts = [decoder.decode(prepared, POINTS[i : i + size], -np.inf) for i in starts]
    owners = [part.owners + start for part, start in zip(parts, starts, strict=True)]
    logits, scores, _ = map(np.concatenate, zip(*parts, strict=True))
    assert_same(Decoded(logits, scores, np.concatenate(owners)), at_once)


def test_no_survivor_gives_empty_arrays(decoder: PointDecoder, prepared: PreparedImage) -> None:
    decoded = decoder.decode(prepared, POINTS, np.inf)
    assert decoded.logits.shape == (0, 64, 64)
    assert decoded.scores.shape == decoded.owners.shape == (0,)


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


def test_memory_sets_the_batch(bundle: Bundle) -> None:
    sam = bundle.require_sam()
    assert batch_size(sam, 1) >= 1
    assert batch_size(sam, 400) == pytest.approx(2 * batch_size(sam, 200), abs=1)
