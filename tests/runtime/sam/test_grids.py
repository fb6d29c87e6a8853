"""Point grids and crops are segment-anything's."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from samrefine_runtime.sam.grids import Crop, crops, point_grid, point_grids, touches_crop_edge

sides = st.integers(1, 200)


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


def test_no_boxes_touch_no_edge() -> None:
    boxes = np.zeros((0, 4), np.int32)
    assert touches_crop_edge(boxes, Crop((0, 0, 9, 9), 1), (20, 20)).shape == (0,)


def test_crops_of_one_pixel() -> None:
    assert crops((1, 1), 2, 0.3)[0] == Crop((0, 0, 1, 1), 0)
    assert all(c.box == (0, 0, 1, 1) for c in crops((1, 1), 2, 0.3))
