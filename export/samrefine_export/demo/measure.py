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
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.prompts import PromptMode

DRAWN_SCENES = RefineSettings(min_trust=0)
"""The networks were trained on scenes like these: every one is refined. Used on anything else the
bundle is cautious (`samrefine demo`, in `samrefine_rt.cli.demo_command`, says the same)."""


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
    refinement: RefineSettings = DRAWN_SCENES,
) -> DemoFigures:
    """Label `scenes` from their image-level labels and compare with the ground truth.

    Every setting left out is the bundle's own, but for the refinement: see DRAWN_SCENES.
    """
    settings = {**(generator or {}), "prompts": prompts}
    labeler = Labeler(bundle, generator=settings, cam=cam, refinement=refinement)
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
