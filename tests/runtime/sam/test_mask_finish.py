"""Masks that a device finishes are those of the windowed resampling, up to rounding.

`everything_finish.onnx` runs on the CPU here; nothing of it depends on where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import Session
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import InferenceError
from samrefine_runtime.masks import rle
from samrefine_runtime.sam.grids import Crop
from samrefine_runtime.sam.mask_finish import DeviceFinish, HostFinish
from samrefine_runtime.sam.point_decoder import LowResMasks
from tests.resampling import CROPS, LOW, SHAPES, Logits, resampler, smooth_logits, whole, windows
from tests.samples import DATA, ONE_THREAD


@cache
def session() -> Session:
    """The graph of the small bundle, which knows nothing of its SAM but the sides of logits."""
    graph = Bundle.load(DATA / "small_bundle").graph("everything_finish")
    return backends.open(graph, ONE_THREAD)


def assert_same_masks(
    low_res: list[Logits],
    image_shape: tuple[int, int],
    crop: Crop,
    threshold: float = 0.0,
    offset: float = 1.0,
) -> None:
    """The same masks but for pixels whose logit is within rounding of a threshold."""
    make, part = resampler(image_shape, crop), LowResMasks(np.stack(low_res), len(low_res))
    on_host = list(HostFinish(make, threshold, offset)(part))
    on_device = list(DeviceFinish(session(), make, threshold, offset)(part))
    for logits, host, device in zip(low_res, on_host, on_device, strict=True):
        # What the device says of its own mask is exact
        assert rle.area(device.counts) == device.pixel_counts[1]
        assert rle.box(device.counts, image_shape[0]) == device.box
        # Its mask is the host's
        full = make.logits(logits)
        rounding = 1e-5 * max(1.0, float(np.abs(logits).max()))
        unclear = [np.abs(full - t) <= rounding for t in (threshold, threshold + offset)]
        unclear.append(np.abs(full - (threshold - offset)) <= rounding)
        different = rle.decode(host.counts, image_shape) != rle.decode(device.counts, image_shape)
        left, top, right, bottom = crop.box
        assert not (different[top:bottom, left:right] & ~unclear[0]).any()
        assert different.sum() <= unclear[0].sum()
        if not unclear[0].any():
            assert np.array_equal(host.counts, device.counts) and host.box == device.box
        if not (unclear[1] | unclear[2]).any():
            assert host.stability_score == pytest.approx(device.stability_score, nan_ok=True, abs=0)


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
@pytest.mark.parametrize("threshold", [0.0, 4.0, -3.0])
def test_whole_images(image_shape: tuple[int, int], threshold: float) -> None:
    low_res = [smooth_logits(seed) for seed in range(4)]
    assert_same_masks(low_res, image_shape, whole(image_shape), threshold)


@pytest.mark.parametrize(("image_shape", "box"), CROPS, ids=str)
def test_crops(image_shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    low_res = [smooth_logits(seed) for seed in range(4)]
    assert_same_masks(low_res, image_shape, Crop(box, 1))


@settings(deadline=None, max_examples=60)
@given(windows())
def test_any_window(case: tuple[Logits, tuple[int, int], Crop, float]) -> None:
    low_res, image_shape, crop, offset = case
    assert_same_masks([low_res], image_shape, crop, offset=offset)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 33), st.integers(1, 33), st.integers(0, 2**16))
def test_every_width_fills_its_bytes(height: int, width: int, seed: int) -> None:
    assert_same_masks([smooth_logits(seed)], (height, width), whole((height, width)))


@pytest.mark.parametrize("value", [-3.0, 3.0])
@pytest.mark.parametrize(("image_shape", "box"), [((20, 30), (0, 0, 30, 20)), *CROPS], ids=str)
def test_empty_and_full_masks(
    image_shape: tuple[int, int], box: tuple[int, int, int, int], value: float
) -> None:
    constant = np.full((LOW, LOW), value, np.float32)
    assert_same_masks([constant, -constant], image_shape, Crop(box, 1))
    # Columns that fill up the last byte count nowhere, whichever side of the threshold zero is
    assert_same_masks([constant, -constant], image_shape, Crop(box, 1), threshold=-5.0)


class Spoiled:
    """The graph with one output changed."""

    is_on_device = True

    def __init__(self, output: str, change: Callable[[NDArray[Any]], NDArray[Any]]):
        self.inputs, self.outputs = session().inputs, session().outputs
        self.output, self.change = output, change

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        outputs = session().run(feeds)
        return {**outputs, self.output: self.change(outputs[self.output])}

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("output", "change", "message"),
    [
        (
            "pixel_counts",
            lambda counts: counts[:1],
            r"2 boxes and 1 counts, expected masks \(2, 20",
        ),
        ("boxes", lambda boxes: boxes[:1], "1 boxes and 2 counts"),
        ("mask_bits", lambda bits: bits[:1], r"masks \(1, 20, 4\), .* expected masks \(2, 20, 4\)"),
        ("mask_bits", lambda bits: bits[:, :, :3], r"masks \(2, 20, 3\)"),
        ("boxes", lambda boxes: boxes - 100, "boxes outside the image"),
        ("boxes", lambda boxes: boxes + np.array([0, 0, 30, 0]), "boxes outside the image"),
        ("boxes", lambda boxes: boxes + np.array([0, 0, 0, 20]), "boxes outside the image"),
        ("boxes", lambda boxes: boxes[:, [2, 1, 0, 3]], "boxes outside the image"),
    ],
)
def test_what_cannot_be_masks(
    output: str, change: Callable[[NDArray[Any]], NDArray[Any]], message: str
) -> None:
    part = LowResMasks(np.stack([smooth_logits(0), smooth_logits(1)]), 2)
    finish = DeviceFinish(Spoiled(output, change), resampler((20, 30)), 0.0, 1.0)
    with pytest.raises(InferenceError, match=f"graph 'everything_finish' gave .*{message}"):
        list(finish(part))
