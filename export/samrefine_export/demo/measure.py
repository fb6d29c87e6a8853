"""What the demo bundle achieves with the real runtime, on scenes it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samrefine_export.demo.scenes import CLASSES, Scene
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.evaluate import Evaluation, confusion_matrix
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings


@dataclass(frozen=True)
class DemoFigures:
    """Labels of a set of scenes against their ground truth."""

    pseudo: Evaluation
    refined: Evaluation
    prompts: str
    seconds: float
    """mean time of a scene"""

    @property
    def gain(self) -> float:
        """mIoU of the refined labels less that of the CAM labels, -1 to 1."""
        return self.refined.miou - self.pseudo.miou


def measure_labels(
    bundle: Bundle,
    scenes: Sequence[Scene],
    *,
    guided: bool = True,
    generator: Mapping[str, Any] | None = None,
    cam: CamSettings | None = None,
    refinement: RefineSettings | None = None,
) -> DemoFigures:
    """Label `scenes` from their image-level labels and compare with the ground truth."""
    labeler = Labeler(bundle, generator=generator, cam=cam, refinement=refinement, guided=guided)
    classes = len(CLASSES) + 1
    totals = np.zeros((2, classes, classes), np.int64)
    seconds = 0.0
    for scene in scenes:
        result = labeler.label(scene.image, scene.image_labels)
        for side, label in enumerate((result.pseudo_label, result.label)):
            totals[side] += confusion_matrix(label, scene.label, classes)
        seconds += sum(result.seconds.values())
    pseudo, refined = (Evaluation(total, len(scenes), [], []) for total in totals)
    return DemoFigures(pseudo, refined, "guided" if guided else "grid", seconds / len(scenes))
