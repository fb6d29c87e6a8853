"""The masks of one image: areas, boxes and records, packed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from samrefine_runtime.errors import MaskFileError, SettingsError
from samrefine_runtime.masks import masks as masks_module
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks, strips

stacks = hnp.array_shapes(min_dims=3, max_dims=3, max_side=7).flatmap(
    lambda shape: hnp.arrays(bool, shape)
)


def packed(stack: NDArray[np.bool_]) -> Masks:
    return Masks.from_dense(stack.shape[1:], stack)


def described(stack: NDArray[np.bool_], first: int = 0) -> Masks:
    """Masks with scores, points and crops that tell them apart."""
    n = len(stack)
    index = np.arange(first, first + n)
    return Masks.from_runs(
        stack.shape[1:],
        [rle.encode(mask) for mask in stack],
        predicted_iou=(index / 100).astype(np.float32),
        stability_score=(index / 10).astype(np.float32),
        point_coords=np.stack([index, index + 0.5], axis=1),
        crop_boxes=np.tile(np.array([1, 2, 5, 8], np.int32), (n, 1)),
    )


@given(stacks)
def test_what_goes_in_comes_out(stack: NDArray[np.bool_]) -> None:
    masks = packed(stack)
    assert len(masks) == len(stack)
    assert masks.image_shape == stack.shape[1:]
    assert all(np.array_equal(masks.dense(i), mask) for i, mask in enumerate(stack))
    assert masks.areas.dtype == np.int64
    assert masks.areas.tolist() == stack.sum(axis=(1, 2)).tolist()


@given(stacks)
def test_spans_are_the_runs_of_ones(stack: NDArray[np.bool_]) -> None:
    starts, ends, owner = packed(stack).spans()
    flat = np.zeros((len(stack), stack[0].size), bool)
    for start, end, mask in zip(starts, ends, owner, strict=True):
        assert not flat[mask, start:end].any()
        flat[mask, start:end] = True
    assert np.array_equal(flat.reshape(len(stack), *stack.shape[:0:-1]).transpose(0, 2, 1), stack)


@given(stacks, st.data())
def test_spans_are_cut_to_a_strip(stack: NDArray[np.bool_], data: st.DataObject) -> None:
    flat = stack.transpose(0, 2, 1).reshape(len(stack), -1)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, flat.shape[1])] * 2)))
    chosen = data.draw(hnp.arrays(bool, len(stack)))
    spans = packed(stack).spans().within(slice(start, stop)).of(chosen)
    assert np.array_equal(spans.cover(stop - start), flat[chosen, start:stop].sum(axis=0))


@given(stacks, st.data())
def test_spans_are_looked_up_at_positions(stack: NDArray[np.bool_], data: st.DataObject) -> None:
    flat = stack.transpose(0, 2, 1).reshape(len(stack), -1)
    positions = np.flatnonzero(data.draw(hnp.arrays(bool, flat.shape[1])))
    spans = packed(stack).spans().at(positions)
    assert np.array_equal(spans.cover(len(positions)), flat[:, positions].sum(axis=0))


indices = st.one_of(
    st.integers(-9, 8),
    st.integers(-9, 8).map(np.int16),
    st.slices(8),
    st.lists(st.integers(-9, 8), max_size=5),
    hnp.arrays(bool, st.integers(0, 7)),
    hnp.arrays(np.int32, st.integers(0, 5), elements=st.integers(-9, 8)),
)


@given(stacks, indices)
@settings(deadline=None)
def test_masks_are_indexed_as_a_stack_is(stack: NDArray[np.bool_], index: Any) -> None:
    masks = described(stack)
    # NumPy takes an empty list for floats where it is an array already
    numpy_index = np.array(index, int) if isinstance(index, list) else index
    try:
        expected = stack[numpy_index]
    except IndexError:
        with pytest.raises(IndexError) as caught:
            masks[index]
        assert isinstance(caught.value, SettingsError) and "expected" in str(caught.value)
        return
    found = masks[index]
    if isinstance(found, Masks):
        assert np.array_equal(np.array(list(found)).reshape(expected.shape), expected)
        assert np.array_equal(found.predicted_iou, masks.predicted_iou[numpy_index])
    else:
        assert found.dtype == bool and np.array_equal(found, expected)


@given(stacks)
@settings(deadline=None)
def test_masks_are_iterated_as_a_stack_is(stack: NDArray[np.bool_]) -> None:
    masks = packed(stack)
    assert np.array_equal(list(masks), stack)
    assert np.array_equal(list(reversed(masks)), stack[::-1])


@given(st.integers(0, 50), st.integers(1, 20))
def test_strips_are_all_positions_in_order(pixels: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks_module, "_STRIP_PIXELS", size)
        found = [i for strip in strips(pixels) for i in range(strip.start, strip.stop)]
    assert found == list(range(pixels))


@given(stacks, st.data())
def test_select_takes_every_column_along(stack: NDArray[np.bool_], data: st.DataObject) -> None:
    masks = described(stack)
    index = data.draw(st.lists(st.integers(0, len(stack) - 1), max_size=6))
    chosen = masks.select(index)
    assert len(chosen) == len(index)
    for place, i in enumerate(index):
        assert np.array_equal(chosen.dense(place), stack[i])
        for name in ("boxes", "predicted_iou", "stability_score", "point_coords", "crop_boxes"):
            assert np.array_equal(getattr(chosen, name)[place], getattr(masks, name)[i]), name


@given(stacks, st.data())
def test_concatenate_keeps_order(stack: NDArray[np.bool_], data: st.DataObject) -> None:
    cut = sorted(data.draw(st.lists(st.integers(0, len(stack)), max_size=3)))
    bounds = [0, *cut, len(stack)]
    parts = [described(stack[start:stop], start) for start, stop in itertools.pairwise(bounds)]
    joined, expected = Masks.concatenate(parts), described(stack)
    for name in ("counts", "offsets", "boxes", "predicted_iou", "point_coords", "crop_boxes"):
        assert np.array_equal(getattr(joined, name), getattr(expected, name)), name
        assert getattr(joined, name).dtype == getattr(expected, name).dtype, name


def test_no_masks() -> None:
    masks = Masks.from_dense((4, 5), [])
    assert len(masks) == 0
    assert masks.areas.shape == (0,)
    assert masks.boxes.shape == (0, 4)
    assert masks.to_records() == []
    assert len(Masks.concatenate([masks, masks]).select([])) == 0


@given(stacks)
def test_what_is_not_known_is_filled_in(stack: NDArray[np.bool_]) -> None:
    masks = packed(stack)
    height, width = masks.image_shape
    assert (masks.predicted_iou == 1).all()
    assert (masks.stability_score == 1).all()
    assert np.isnan(masks.point_coords).all()
    assert (masks.crop_boxes == [0, 0, width, height]).all()


def test_a_record_is_segment_anythings() -> None:
    stack = np.zeros((1, 6, 9), bool)
    stack[0, 1:4, 2:8] = True
    (record,) = described(stack, 7).to_records()
    assert np.array_equal(record.pop("segmentation"), stack[0])
    expected: dict[str, Any] = {
        "area": 18,
        "bbox": [2, 1, 5, 2],
        "predicted_iou": float(np.float32(0.07)),
        "point_coords": [[7.0, 7.5]],
        "stability_score": float(np.float32(0.7)),
        "crop_box": [1, 2, 4, 6],
    }
    assert record == expected
    assert list(record) == list(expected)
    for key, value in expected.items():
        assert type(record[key]) is type(value), key
    assert all(type(value) is int for value in record["bbox"] + record["crop_box"])


@given(stacks)
def test_segmentations_of_every_mode_agree(stack: NDArray[np.bool_]) -> None:
    masks = packed(stack)
    binary, runs, compressed = map(
        masks.to_records, ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    for i, mask in enumerate(stack):
        assert binary[i]["segmentation"].dtype == bool
        assert np.array_equal(binary[i]["segmentation"], mask)
        size, counts = runs[i]["segmentation"]["size"], runs[i]["segmentation"]["counts"]
        assert size == list(mask.shape)
        assert all(type(count) is int for count in counts)
        assert np.array_equal(rle.decode(np.array(counts), mask.shape), mask)
        assert compressed[i]["segmentation"]["size"] == list(mask.shape)
        text = compressed[i]["segmentation"]["counts"]
        assert np.array_equal(rle.from_coco_string(text, mask.shape), counts)


def test_unknown_output_mode() -> None:
    with pytest.raises(SettingsError, match="output_mode is 'png', expected one of"):
        packed(np.ones((1, 2, 2), bool)).to_records("png")  # type: ignore[arg-type]


def test_mask_of_another_size() -> None:
    with pytest.raises(
        MaskFileError, match=r"masks\[1\] is \(3, 2\) bool, expected \(2, 3\) \(H, W\)"
    ):
        Masks.from_dense((2, 3), [np.zeros((2, 3), bool), np.zeros((3, 2), bool)])


def test_columns_of_different_lengths() -> None:
    with pytest.raises(SettingsError, match="predicted_iou has 3 rows, expected 1"):
        Masks.from_runs((1, 2), [np.array([2], np.uint32)], predicted_iou=np.zeros(3, np.float32))
