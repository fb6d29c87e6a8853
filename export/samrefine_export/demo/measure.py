"""What the demo bundle achieves with the runtime, on scenes it was never trained on."""

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
from samrefine_runtime.prompts import PromptMode
from samrefine_runtime.refine import RefineSettings


@dataclass(frozen=True)
class DemoFigures:
    """Labels of a set of scenes against their ground truth."""

    pseudo: Evaluation
    refined: Evaluation
    prompts: float
    """Mean number of point prompts per scene."""
    seconds: float
    """Mean seconds per scene."""

    @property
    def gain(self) -> float:
        """mIoU of the refined labels less that of the CAM labels, -1 to 1."""
        return self.refined.miou - self.pseudo.miou


def measure_labels(
    bundle: Bundle,
    scenes: Sequence[Scene],
    *,
    prompts: PromptMode = "guided",
    generator: Mapping[str, Any] | None = None,
    cam: CamSettings | None = None,
    refinement: RefineSettings | None = None,
) -> DemoFigures:
    """Label `scenes` from their image-level labels and compare with the ground truth."""
    labeler = Labeler(bundle, generator=generator, cam=cam, refinement=refinement, prompts=prompts)
    classes = len(CLASSES) + 1
    totals = np.zeros((2, classes, classes), np.int64)
    seconds, asked = 0.0, _PromptCounter()
    for scene in scenes:
        result = labeler.label(scene.image, scene.image_labels, progress=asked)
        for side, label in enumerate((result.pseudo_label, result.label)):
            totals[side] += confusion_matrix(label, scene.label, classes)
        seconds += sum(result.seconds.values())
    pseudo, refined = (Evaluation(total, len(scenes), [], []) for total in totals)
    return DemoFigures(pseudo, refined, asked.count / len(scenes), seconds / len(scenes))


class _PromptCounter:
    """A progress callback that adds up the prompts of all scenes."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, done: int, total: int) -> None:
        self.count += total if done == total else 0
