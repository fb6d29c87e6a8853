"""The decoder of everything mode: halves, batch sizes, and the one graph that does both parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime.backends.ort import OrtSession
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.point_decoder import Decoded, PointDecoder, PreparedImage, batch_size
from tests.samples import ONE_THREAD, synthetic

POINTS = np.random.default_rng(0).random((9, 2)) * [72, 48]


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


@pytest.fixture
def decoder(bundle: Bundle) -> PointDecoder:
    return PointDecoder(bundle, session=ONE_THREAD)


@pytest.fixture
def prompted(bundle: Bundle, decoder: PointDecoder) -> PreparedImage:
    return decoder.prepare(ImageEncoder(bundle, session=ONE_THREAD).embed(synthetic((48, 72))))


def assert_same(actual: Decoded, expected: Decoded) -> None:
    assert np.array_equal(actual.owners, expected.owners)
    assert np.allclose(actual.scores, expected.scores, atol=1e-5)
    scale = np.abs(expected.logits).max()
    assert np.allclose(actual.logits, expected.logits, atol=1e-5 * scale)


def test_the_single_graph_gives_the_same(
    bundle: Bundle, decoder: PointDecoder, prompted: PreparedImage
) -> None:
    threshold = float(np.median(decoder.decode(prompted, POINTS, -np.inf).scores))
    outputs = OrtSession(bundle.graph("everything").path, session=ONE_THREAD).run(
        {
            "image_embeddings": prompted.embedding.features,
            "point_coords": prompted.embedding.to_input(POINTS),
            "pred_iou_thresh": np.array(threshold, np.float32),
        }
    )
    names = ("low_res_masks", "iou_predictions", "point_index")
    decoded = decoder.decode(prompted, POINTS, threshold)
    assert 0 < len(decoded.scores) < 27
    assert_same(Decoded(*(outputs[name] for name in names)), decoded)


@pytest.mark.parametrize("size", [1, 4])
def test_batch_size_does_not_change_the_logits(
    decoder: PointDecoder, prompted: PreparedImage, size: int
) -> None:
    at_once = decoder.decode(prompted, POINTS, -np.inf)
    starts = range(0, len(POINTS), size)
    parts = [decoder.decode(prompted, POINTS[i : i + size], -np.inf) for i in starts]
    owners = [part.owners + start for part, start in zip(parts, starts, strict=True)]
    logits, scores, _ = map(np.concatenate, zip(*parts, strict=True))
    assert_same(Decoded(logits, scores, np.concatenate(owners)), at_once)


def test_no_survivor_gives_empty_arrays(decoder: PointDecoder, prompted: PreparedImage) -> None:
    decoded = decoder.decode(prompted, POINTS, np.inf)
    assert decoded.logits.shape == (0, 64, 64)
    assert decoded.scores.shape == decoded.owners.shape == (0,)


def short_of_memory(decoder: PointDecoder, fits: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the decoder's batches of more than `fits` prompts fail; the sizes it tries."""
    run, tried = decoder._prompts.run, list[int]()

    def run_or_fail(feeds: Mapping[str, Any]) -> dict[str, Any]:
        tried.append(len(feeds["point_coords"]))
        if tried[-1] > fits:
            raise MemoryError("Failed to allocate")
        return run(feeds)

    monkeypatch.setattr(decoder._prompts, "run", run_or_fail)
    return tried


def test_a_batch_too_large_is_halved(
    decoder: PointDecoder,
    prompted: PreparedImage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = decoder.decode(prompted, POINTS, -np.inf)
    tried = short_of_memory(decoder, 3, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert_same(decoder.decode(prompted, POINTS, -np.inf), expected)
    assert tried == [9, 4, 2, 2, 5, 2, 3]
    assert "out of memory at 9 prompts a batch" in caplog.text


def test_a_single_prompt_that_does_not_fit_is_an_error(
    decoder: PointDecoder, prompted: PreparedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(decoder, 0, monkeypatch)
    with pytest.raises(MemoryError):
        decoder.decode(prompted, POINTS, -np.inf)


def test_memory_sets_the_batch(bundle: Bundle) -> None:
    sam = bundle.require_sam()
    assert batch_size(sam, 1) >= 1
    assert batch_size(sam, 400) == pytest.approx(2 * batch_size(sam, 200), abs=1)
