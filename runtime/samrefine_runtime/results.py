"""What the pipeline finds out about one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks


@dataclass(frozen=True)
class LabelResult:
    """All that is known of one labelled image of H x W pixels."""

    label: LabelMap
    """(H, W) uint8, the refined label."""
    pseudo_label: LabelMap
    """(H, W) uint8, what the CAM alone says."""
    confidence: NDArray[np.float32]
    """(H, W), 0 to 1, of the pseudo label."""
    cam: CamResult
    masks: Masks
    seconds: Mapping[str, float]
    """Time of each stage: cam, masks, refine."""

    @property
    def changed(self) -> float:
        """Fraction of the pixels that the refinement changed, 0 to 1."""
        return float(np.mean(self.label != self.pseudo_label))

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return figures for a JSON file; `classes` (C,) are the foreground names."""
        before = np.bincount(self.pseudo_label.reshape(-1), minlength=256)
        after = np.bincount(self.label.reshape(-1), minlength=256)
        present = [i for i in range(1, len(classes) + 1) if before[i] or after[i]]
        return {
            "size": list(self.label.shape),
            "classes": {
                classes[i - 1]: {
                    "pseudo_label_pixels": int(before[i]),
                    "pixels": int(after[i]),
                    "probability": float(self.cam.probabilities[i - 1]),
                }
                for i in present
            },
            "changed": self.changed,
            "masks": len(self.masks),
            "seconds": {stage: round(taken, 3) for stage, taken in self.seconds.items()},
        }
