"""Memory beside the arguments, in bytes per pixel: results, and little more."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from samrefine_runtime import image as image_module
from samrefine_runtime import labels
from samrefine_runtime.cam import CamResult
from samrefine_runtime.evaluate import confusion_matrix
from samrefine_runtime.masks import masks as masks_module
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import refine_labels
from samrefine_runtime.report.entry import ReportEntry, count_pixels
from samrefine_runtime.report.overlay import draw_label, draw_masks
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.grids import point_grid, whole_image
from samrefine_runtime.sam.prompts import uncovered
from samrefine_runtime.trust import image_trust

SHAPE = (1000, 1500)
IMAGE = np.zeros((*SHAPE, 3), np.uint8)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[100:800, 100:700], LABEL[200:900, 800:1400] = 1, 8


def masks() -> Masks:
    boxes = [(50, 750, 90, 690), (220, 880, 850, 1390), (0, 1000, 0, 1500), (300, 310, 20, 1490)]
    found = np.zeros((len(boxes), *SHAPE), bool)
    for mask, (top, bottom, left, right) in zip(found, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return Masks.from_dense(SHAPE, found)


def cam() -> CamResult:
    maps = np.random.default_rng(0).random((8, 40, 60), np.float32)
    return CamResult(np.arange(1, 9), maps, 0.15, np.ones(8, np.float32), SHAPE)


MASKS, CAM = masks(), cam()
RESULT = LabelResult(LABEL, LABEL, CAM, MASKS, {})
POINTS = point_grid(32) * SHAPE[::-1]
CASES: dict[str, tuple[Callable[[], object], float]] = {
    # One map, the highest so far, the label, and where a map is higher
    "pseudo label of 8 classes": (CAM.label, 4 + 4 + 1 + 2),
    # The label by columns, and its refinement by columns and by rows
    "refinement": (lambda: refine_labels(LABEL, MASKS), 3.5),
    # Pixels that are left, in a mask, and both
    "trust": (lambda: image_trust(LABEL, MASKS), 3.5),
    "covered points": (lambda: uncovered(POINTS, whole_image(SHAPE), MASKS), 0.5),
    "counts of values": (lambda: labels.count_values(LABEL), 0.5),
    "confusion": (lambda: confusion_matrix(LABEL, LABEL, 21), 0.5),
    "counts of the report": (lambda: count_pixels(LABEL, LABEL, LABEL), 0.5),
    "entry of the report": (lambda: ReportEntry.of("a", IMAGE, RESULT, LABEL), 1.5),
    "summary": (lambda: RESULT.summary([str(i) for i in range(8)]), 3.5),
    "overlay of a label": (lambda: draw_label(IMAGE, LABEL), 3.5),
    # The overlay, and the mask at each pixel
    "overlay of masks": (lambda: draw_masks(IMAGE, MASKS), 3 + 4 + 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_bytes_per_pixel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work, bound = CASES[name]
    # Strips are small beside this image, as they are beside a large one
    monkeypatch.setattr(image_module, "_STRIP_PIXELS", 10_000)
    monkeypatch.setattr(masks_module, "_STRIP_PIXELS", 10_000)
    monkeypatch.setattr(labels, "_PIECE_PIXELS", 10_000)
    work()  # what is imported or cached at first is no part of it
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / LABEL.size < bound
