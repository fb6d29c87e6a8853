"""Results of the pipeline for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.formats.objects import find_objects
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.labels import LabelMap, count_values
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.trust import image_trust


class Refined:
    """What is known of every image whose pseudo label was refined."""

    label: LabelMap
    pseudo_label: LabelMap
    masks: Masks
    seconds: Mapping[str, float]
    chosen: NDArray[np.uint8] | None

    @property
    def objects(self) -> list[Region] | None:
        """The objects of the label with their confidence, computed at each call.

        None where it is not known which masks were chosen.
        """
        if self.chosen is None:
            return None
        return find_objects(self.label, self.pseudo_label, self.masks, self.chosen)

    @property
    def changed(self) -> float:
        """Fraction of the pixels that the refinement changed, 0 to 1."""
        return float(np.mean(self.label != self.pseudo_label))

    @property
    def trust(self) -> float:
        """Trust in the masks, 0 to 1 (`trust.image_trust`); where it is low the label is kept."""
        return image_trust(self.pseudo_label, self.masks)

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return figures for a JSON file; `classes` are the C foreground class names."""
        # Pixels of each label value (256,); classes in neither label are omitted
        before, after = count_values(self.pseudo_label), count_values(self.label)
        present = [i for i in range(1, len(classes) + 1) if before[i] or after[i]]
        return {
            "size": list(self.label.shape),
            "classes": {
                classes[i - 1]: {
                    "pseudo_label_pixels": int(before[i]),
                    "pixels": int(after[i]),
                    **self._class_figures(i),
                }
                for i in present
            },
            "changed": self.changed,
            "trust": round(self.trust, 4),
            "masks": len(self.masks),
            "seconds": {stage: round(taken, 3) for stage, taken in self.seconds.items()},
        }

    def _class_figures(self, value: int) -> dict[str, float]:
        """Return what else is known of the class of a label value."""
        return {}


@dataclass(frozen=True)
class RefineResult(Refined):
    """Result of one refined pseudo label of H x W pixels."""

    label: LabelMap
    """Refined label (H, W) uint8."""
    pseudo_label: LabelMap
    """Pseudo label (H, W) uint8, as it was given."""
    masks: Masks
    """All masks of the image."""
    seconds: Mapping[str, float]
    """Time of each stage in seconds: masks, refine."""
    chosen: NDArray[np.uint8] | None = None
    """The class that took each mask, (N,) uint8, 0 for none."""


@dataclass(frozen=True)
class LabelResult(Refined):
    """Result of one labelled image of H x W pixels: labels, CAM, masks and times."""

    label: LabelMap
    """Refined label (H, W) uint8."""
    pseudo_label: LabelMap
    """Pseudo label (H, W) uint8, from the CAM before refinement."""
    cam: CamResult
    """Activation maps and class probabilities."""
    masks: Masks
    """All masks of the image."""
    seconds: Mapping[str, float]
    """Time of each stage in seconds: cam, masks, refine."""
    chosen: NDArray[np.uint8] | None = None
    """The class that took each mask, (N,) uint8, 0 for none."""

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Confidence (H, W) float32 of the pseudo label, 0 to 1; computed at each call."""
        return self.cam.label()[1]

    def _class_figures(self, value: int) -> dict[str, float]:
        return {"probability": float(self.cam.probabilities[value - 1])}
