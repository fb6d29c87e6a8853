"""Whether the confidence of objects finds the wrong ones, on drawn scenes.

python -m benchmarks.confidence [SCENES]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from samrefine_export.demo.pool import HELD_OUT
from samrefine_export.demo.scenes import make_scene
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.results import LabelResult

LEAST_AREA = 50
"""Smaller objects, in pixels, are left out."""

RIGHT = 0.5
"""Fraction of an object's pixels that have its class in the ground truth; below it is wrong."""


def main(scenes: int) -> None:
    """Print how well each figure parts right objects from wrong ones."""
    labeler, rows = Labeler("demo"), []
    for index in range(scenes):
        scene = make_scene(HELD_OUT + index)
        if scene.image_labels.any():
            rows += list(_measured(labeler.label(scene.image, scene.image_labels), scene.label))
    right, *figures = np.array(rows).T
    wrong = right < RIGHT
    print(f"{len(rows)} objects in {scenes} scenes, {wrong.sum()} of them wrong")
    names = ("confidence", "SAM's predicted IoU alone", "agreement with the pseudo label alone")
    for name, values in zip(names, figures, strict=True):
        print(f"{name:40} AUC {_auc(values[~wrong], values[wrong]):.3f}")


def _measured(
    result: LabelResult, truth: NDArray[np.uint8]
) -> Iterator[tuple[float, float, float, float]]:
    """Yield the share of right pixels, the confidence and its two factors of each object."""
    agreed = result.pseudo_label == result.label
    for found in result.objects or []:
        if found.area >= LEAST_AREA:
            pixels = found.paste(truth.shape)
            agreement = float(agreed[pixels].mean())
            confidence = found.confidence or 0.0
            yield (
                float((truth[pixels] == found.class_id).mean()),
                confidence,
                # Its other factor
                confidence / agreement if agreement else 0.0,
                agreement,
            )


def _auc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Return how often a value of the first kind is above one of the second, ties half."""
    above = (higher[:, None] > lower[None]).mean() + (higher[:, None] == lower[None]).mean() / 2
    return float(above)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
