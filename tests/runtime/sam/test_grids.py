"""Point grids and crops; `tests/parity/test_amg_parity.py` compares them with the reference."""

from __future__ import annotations

import numpy as np
import pytest

from samrefine_runtime.sam.grids import Crop, crops, point_grid, point_grids, touches_crop_edge


def test_no_boxes_touch_no_edge() -> None:
    boxes = np.zeros((0, 4), np.int32)
    assert touches_crop_edge(boxes, Crop((0, 0, 9, 9), 1), (20, 20)).shape == (0,)


def test_crops_of_one_pixel() -> None:
    assert crops((1, 1), 2, 0.3)[0] == Crop((0, 0, 1, 1), 0)
    assert all(c.box == (0, 0, 1, 1) for c in crops((1, 1), 2, 0.3))


def test_points_are_spaced_evenly_row_by_row() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    assert [len(grid) for grid in point_grids(8, 2, 2)] == [64, 16, 4]


def test_layers_of_crops_cover_the_image() -> None:
    found = crops((60, 100), 2, 512 / 1500)
    assert [crop.layer for crop in found] == [0] + [1] * 4 + [2] * 16
    for layer in range(3):
        covered = np.zeros((60, 100), bool)
        for crop in found:
            if crop.layer == layer:
                left, top, right, bottom = crop.box
                covered[top:bottom, left:right] = True
        assert covered.all()


@pytest.mark.parametrize(
    ("box", "touches"),
    [((5, 40, 60, 60), False), ((35, 40, 60, 60), True), ((60, 60, 85, 70), True)],
)
def test_only_edges_inside_the_image_cut(box: tuple[int, ...], touches: bool) -> None:
    """The crop's left and right edges lie inside the image, its upper and lower ones do not."""
    crop = Crop((30, 0, 100, 100), 1)
    boxes = np.array([[box[0] + 60, *box[1:]] if not touches else box], np.int32)
    assert touches_crop_edge(boxes, crop, (100, 200)).tolist() == [touches]
