"""Run lengths; their compressed form is pycocotools'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import MaskFileError
from samrefine_runtime.masks import rle
from tests.samples import pycocotools

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
masks = shapes.flatmap(lambda shape: hnp.arrays(bool, shape))


@given(masks)
def test_decode_inverts_encode(mask: NDArray[np.bool_]) -> None:
    counts = rle.encode(mask)
    assert counts.dtype == np.uint32
    assert np.array_equal(rle.decode(counts, mask.shape), mask)
    assert rle.area(counts) == mask.sum()


@given(masks)
def test_string_is_pycocotools(mask: NDArray[np.bool_]) -> None:
    coco = pycocotools("mask")
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    text = rle.to_coco_string(rle.encode(mask))
    assert text == expected
    assert np.array_equal(rle.from_coco_string(text, mask.shape), rle.encode(mask))


@given(st.lists(st.integers(0, 1 << 24), min_size=1, max_size=20))
def test_strings_of_long_runs(counts: list[int]) -> None:
    size = (sum(counts), 1)
    text = rle.to_coco_string(np.array(counts, np.uint32))
    assert rle.from_coco_string(text, size).tolist() == counts
    if size[0]:
        coco = pycocotools("mask")
        compressed = {"size": list(size), "counts": text.encode()}
        assert coco.area(compressed) == sum(counts[1::2])


def test_runs_near_the_largest_image() -> None:
    size = (1 << 16, (1 << 15) - 1)
    counts = np.array([0, 1, size[0] * size[1] - 1], np.uint32)
    assert np.array_equal(rle.from_coco_string(rle.to_coco_string(counts), size), counts)


@given(shapes, st.booleans())
def test_one_value_only(shape: tuple[int, int], value: bool) -> None:
    counts = rle.encode(np.full(shape, value))
    assert counts.tolist() == ([0] if value else []) + [shape[0] * shape[1]]


def test_mask_without_pixels() -> None:
    assert rle.encode(np.zeros((0, 5), bool)).tolist() == [0]


@given(st.text(max_size=40) | st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=40))
def test_hostile_strings_are_refused_or_fill_the_image(text: str) -> None:
    try:
        counts = rle.from_coco_string(text, (3, 4))
    except MaskFileError:
        return
    assert counts.sum() == 12
    assert rle.decode(counts, (3, 4)).shape == (3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run lengths sum to 0, expected 12"),
        ("5 7", "character ' ' does not belong"),
        ("5ü", "character 'ü' does not belong"),
        ("5q", "character 'q' does not belong"),
        ("5o", "ends in the middle of a number"),
        ("55", "run lengths sum to 10, expected 12"),
        ("O=", "a run length is out of range, 0 to 12"),
        ("o" * 8 + "0", "number above 32 bits"),
        ("o" * 2_000_000 + "0", "number above 32 bits"),
    ],
)
def test_damaged_strings(text: str, message: str) -> None:
    with pytest.raises(MaskFileError, match=message):
        rle.from_coco_string(text, (3, 4))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "run lengths sum to 0, expected 12"),
        ([11], "run lengths sum to 11, expected 12"),
        ([12, 12], "run lengths sum to 24, expected 12"),
        ([13], "a run length is out of range, 0 to 12"),
        ([6, -1, 7], "out of range"),
        ([-12, 24], "out of range"),
        ([1 << 40], "out of range"),
        # In 32 and in 64 bits these add up to 12
        ([1 << 31, 1 << 31, 12], "out of range"),
        ([1 << 63, 1 << 63, 12], "out of range"),
        ([(1 << 64) - 1, 13], "out of range"),
        ([10**5000, 12], "out of range"),
    ],
)
def test_counts_that_do_not_fill_the_image(counts: list[int], message: str) -> None:
    with pytest.raises(MaskFileError, match=message):
        rle.check(counts, (3, 4))


@given(
    st.lists(st.integers(-1, 1 << 65) | st.integers(0, 4), max_size=6),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_what_is_accepted_fills_the_image(counts: list[int], image_shape: tuple[int, int]) -> None:
    is_right = sum(counts) == image_shape[0] * image_shape[1] and min(counts, default=0) >= 0
    try:
        runs = rle.check(counts, image_shape)
    except MaskFileError:
        assert not is_right
        return
    assert is_right and runs.tolist() == counts
    assert rle.decode(runs, image_shape).shape == image_shape
