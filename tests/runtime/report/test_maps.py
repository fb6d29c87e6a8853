"""Maps of the report: lossless, and small."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from samrefine_runtime import image as image_module
from samrefine_runtime.cam import CamResult
from samrefine_runtime.masks import masks as masks_module
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.maps import (
    CAM_LEVELS,
    LABEL_SIDE,
    EncodedMap,
    cam_map,
    encode,
    label_map,
    mask_map,
)

SHAPE = 60, 90


def decode(encoded: EncodedMap) -> NDArray[np.int64]:
    """Undo `encode`, as the page's script does: row by row, low bytes and then high bytes."""
    height, width = encoded["shape"]
    data = zlib.decompress(base64.b64decode(encoded["data"]))
    planes = np.frombuffer(data, np.uint8).reshape(encoded["planes"], height, width).copy()
    for row in range(1, height):
        planes[:, row] ^= planes[:, row - 1]
    return sum(
        (plane.astype(np.int64) << 8 * index for index, plane in enumerate(planes)),
        np.zeros((height, width), np.int64),
    )


SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=30)


@settings(deadline=None)
@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda kind: arrays.arrays(kind, SHAPES)))
def test_maps_are_lossless(values: NDArray[np.uint8]) -> None:
    encoded = encode(values)
    assert (decode(encoded) == values).all()
    assert encoded["planes"] == (2 if values.max() > 255 else 1)


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.uint16)
    whole = encode(values)
    monkeypatch.setattr(image_module, "_STRIP_PIXELS", 7 * SHAPE[1])
    assert encode(values) == whole


def test_label_of_a_large_image_is_sampled() -> None:
    label = np.zeros((2, LABEL_SIDE + 1000), np.uint8)
    label[:, label.shape[1] // 2 :] = 7
    found = decode(label_map(label))
    assert found.shape == (2, LABEL_SIDE)
    assert (found[:, : LABEL_SIDE // 2] == 0).all() and (found[:, LABEL_SIDE // 2 :] == 7).all()


def test_label_of_blobs_takes_little() -> None:
    rows, columns = np.mgrid[:375, :500]
    label = np.zeros((375, 500), np.uint8)
    label[(rows - 150) ** 2 + (columns - 200) ** 2 < 90**2] = 15
    label[(rows - 250) ** 2 + (columns - 350) ** 2 < 60**2] = 3
    assert len(label_map(label)["data"]) < 2000


def masks() -> Masks:
    large, little = np.zeros((2, *SHAPE), bool)
    large[5:50, 5:80] = True
    little[20:40, 20:40] = True
    return Masks.from_dense(SHAPE, [little, large])


@pytest.mark.parametrize("strip", [7, 1 << 20])
def test_small_masks_lie_on_top(monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    monkeypatch.setattr(masks_module, "_STRIP_PIXELS", strip)
    found = decode(mask_map(masks()))
    assert found.shape == SHAPE
    assert (found[20:40, 20:40] == 1).all()
    assert np.count_nonzero(found == 2) == 45 * 75 - 20 * 20
    assert np.count_nonzero(found == 0) == found.size - 45 * 75


def test_more_than_a_byte_of_masks() -> None:
    single = np.eye(300, dtype=bool).reshape(300, 1, 300)
    assert (decode(mask_map(Masks.from_dense((1, 300), single))) == np.arange(1, 301)).all()


def test_cam_has_levels() -> None:
    maps = np.linspace(0, 1, 96 * 64, dtype=np.float32).reshape(1, 64, 96)
    cam = CamResult(np.array([1]), maps, 0.15, np.array([0.9], np.float32), (640, 960))
    found = decode(cam_map(cam))
    assert found.shape == (64, 96)
    assert (found == np.rint(maps[0] * CAM_LEVELS)).all()


def test_maps_of_nothing() -> None:
    maps, probabilities = np.zeros((0, *SHAPE), np.float32), np.zeros(2, np.float32)
    cam = CamResult(np.zeros(0, np.int64), maps, 0.15, probabilities, SHAPE)
    for encoded in (cam_map(cam), mask_map(Masks.from_dense(SHAPE, []))):
        assert not decode(encoded).any()
