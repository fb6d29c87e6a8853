"""Grids, crops, boxes, run lengths, small regions and preprocessing are segment-anything's."""

from __future__ import annotations

import inspect
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from segment_anything.utils.transforms import ResizeLongestSide

from samrefine_export.sam.tiny_vit import PIXEL_MEAN, PIXEL_STD
from samrefine_export.third_party import Sam, SamAutomaticMaskGenerator, amg
from samrefine_runtime.bundle import SamSpec
from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.masks.small_regions import remove_small_regions
from samrefine_runtime.sam.encoder import preprocess
from samrefine_runtime.sam.grids import Crop, crops, point_grid, point_grids, touches_crop_edge
from samrefine_runtime.sam.settings import GeneratorSettings
from tests.samples import synthetic

SAM = SamSpec(
    input_side=1024,
    mean=np.array(PIXEL_MEAN, np.float32),
    std=np.array(PIXEL_STD, np.float32),
    embedding=(256, 64, 64),
    mask_threshold=0.0,
)

sides = st.integers(1, 200)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
masks = shapes.flatmap(lambda shape: hnp.arrays(bool, shape))
stacks = hnp.array_shapes(min_dims=3, max_dims=3, max_side=7).flatmap(
    lambda shape: hnp.arrays(bool, shape)
)


@given(st.integers(1, 40))
def test_grid(points_per_side: int) -> None:
    assert np.array_equal(point_grid(points_per_side), amg.build_point_grid(points_per_side))


@given(st.integers(8, 40), st.integers(0, 3), st.integers(1, 2))
def test_grids_of_layers(points_per_side: int, layers: int, factor: int) -> None:
    expected = amg.build_all_layer_point_grids(points_per_side, layers, factor)
    actual = point_grids(points_per_side, layers, factor)
    assert len(actual) == len(expected) == layers + 1
    assert all(map(np.array_equal, actual, expected))


@given(sides, sides, st.integers(0, 3), st.sampled_from([0.0, 512 / 1500, 0.5, 1.0]))
def test_crops(height: int, width: int, layers: int, overlap_ratio: float) -> None:
    """Images of a few pixels give empty crops in the reference, on which it fails."""
    boxes, layer_of = amg.generate_crop_boxes((height, width), layers, overlap_ratio)
    expected = [
        (tuple(box), layer)
        for box, layer in zip(boxes, layer_of, strict=True)
        if box[0] < box[2] and box[1] < box[3]
    ]
    actual = crops((height, width), layers, overlap_ratio)
    assert [(crop.box, crop.layer) for crop in actual] == expected
    if min(height, width) >= 64:
        assert len(actual) == len(boxes)


@given(st.data())
def test_boxes_near_an_edge_of_the_crop(data: st.DataObject) -> None:
    height, width = data.draw(sides), data.draw(sides)
    boxes = data.draw(st.lists(st.tuples(sides, sides, sides, sides), min_size=1, max_size=5))
    left, right = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    crop = (left, top, right, bottom)
    # The reference's boxes are still relative to the crop.
    relative = torch.tensor(boxes) - torch.tensor([left, top, left, top])
    expected = amg.is_box_near_crop_edge(relative, list(crop), [0, 0, width, height])
    actual = touches_crop_edge(np.array(boxes, np.int32), Crop(crop, 1), (height, width))
    assert np.array_equal(actual, expected.numpy())


@given(stacks)
def test_boxes_are_segment_anythings(stack: NDArray[np.bool_]) -> None:
    expected = amg.batched_mask_to_box(torch.from_numpy(stack))
    assert Masks.from_dense(stack.shape[1:], stack).boxes.tolist() == expected.tolist()


@given(masks)
def test_runs_are_segment_anythings(mask: NDArray[np.bool_]) -> None:
    expected = amg.mask_to_rle_pytorch(torch.from_numpy(mask)[None])[0]
    assert rle.encode(mask).tolist() == expected["counts"]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 12))
def test_small_regions_go_as_in_segment_anything(data: st.DataObject, min_area: int) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8))
    stack = data.draw(hnp.arrays(bool, (3, *shape)))
    cleaned = remove_small_regions(Masks.from_dense(shape, stack), min_area, nms_thresh=1.1)
    expected = []
    for mask in stack:
        filled, had_holes = amg.remove_small_regions(mask, min_area, mode="holes")
        whole, had_islands = amg.remove_small_regions(filled, min_area, mode="islands")
        expected.append((had_holes or had_islands, np.asarray(whole)))
    expected.sort(key=lambda changed_and_mask: changed_and_mask[0])
    assert len(cleaned) == 3
    for i, (_, mask) in enumerate(expected):
        assert np.array_equal(cleaned.dense(i), mask)


def test_settings_are_segment_anythings() -> None:
    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    ours = {field.name: field.default for field in fields(GeneratorSettings)}
    own = {"prompts", "memory_mb"}
    assert set(ours) == set(theirs) - {"model"} | own
    assert ours["prompts"] == "grid" and ours["memory_mb"] is None
    for name in set(ours) - own - {"points_per_batch"}:
        assert ours[name] == theirs[name].default, name


def reference_input(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """What `SamPredictor.set_image` gives the encoder."""

    class Encoder(torch.nn.Module):
        img_size = size

    sam = Sam(Encoder(), torch.nn.Identity(), torch.nn.Identity(), PIXEL_MEAN, PIXEL_STD)
    resized = torch.as_tensor(ResizeLongestSide(size).apply_image(image))
    return sam.preprocess(resized.permute(2, 0, 1)[None]).numpy()


@pytest.mark.parametrize(
    "shape",
    [(32, 48), (375, 500), (500, 375), (2000, 3000), (333, 333), (1024, 1024), (1500, 2)],
    ids=str,
)
def test_preprocessing_is_segment_anythings_to_the_bit(shape: tuple[int, int]) -> None:
    image = synthetic(shape)
    actual = preprocess(image, SAM)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, reference_input(image, 1024))


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (1, 1), (2000, 3000), (1023, 767)])
def test_resized_size_is_segment_anythings(size: tuple[int, int]) -> None:
    for long_side in (256, 1024):
        expected = ResizeLongestSide.get_preprocess_shape(*size, long_side)
        assert resized_shape(size, long_side) == expected
