"""Results of the pipeline for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import as_texts
from samrefine_runtime.cam import CamResult
from samrefine_runtime.checks import StrPath
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats.objects import find_objects
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.image import RgbImage
from samrefine_runtime.label_files import write_labels
from samrefine_runtime.labels import LabelMap, count_values, write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.registry import Registry
from samrefine_runtime.trust import image_trust

_ABOVE: Registry[Any] = Registry(
    "use of results", {"picture": "samrefine_runtime.report.notebook:labels_png"}
)
"""What knows results, not the other way round: found by name when a notebook asks for it."""


@dataclass(frozen=True, eq=False, repr=False)
class LabelResult:
    """Result of one labelled image of H x W pixels: labels, CAM, masks and times."""

    label: LabelMap
    """Refined label (H, W) uint8."""
    pseudo_label: LabelMap
    """Pseudo label (H, W) uint8 before refinement."""
    cam: CamResult | None
    """Activation maps and class probabilities; None where the pseudo label was given."""
    masks: Masks
    """All masks of the image."""
    seconds: Mapping[str, float]
    """Time of each stage in seconds: cam, masks, refine."""
    chosen: NDArray[np.uint8] | None = None
    """The class that took each mask, (N,) uint8, 0 for none; None where it is not known."""
    image: RgbImage | None = None
    """The image (H, W, 3) uint8 RGB."""
    image_file: Path | None = None
    """File of the image; None where it was an array."""
    classes: tuple[str, ...] = ()
    """Foreground names; label value v is classes[v - 1]. Empty where they are not known."""

    def __repr__(self) -> str:
        present = [self._name(int(value)) for value in np.flatnonzero(count_values(self.label)[1:])]
        return (
            f"LabelResult(classes={present}, changed={self.changed:.4f}, masks={len(self.masks)}, "
            f"image_shape={self.masks.image_shape})"
        )

    def _repr_png_(self) -> bytes:
        """Return the picture that notebooks show: image, pseudo label, masks, refined label."""
        return bytes(_ABOVE["picture"](self.image, self.pseudo_label, self.masks, self.label))

    def _name(self, index: int) -> str | int:
        return self.classes[index] if index < len(self.classes) else index + 1

    def save(self, path: StrPath, formats: Sequence[str] | None = None) -> None:
        """Write the refined label, the same bytes as `samrefine label` and `refine` write.

        Args:
            path: a PNG file; or a folder, if `formats` are given.
            formats: names of label formats, see `write_labels`, which writes them; None for the
                PNG file alone.

        Raises:
            SettingsError: as `write_labels`, or its formats need the image's file or class names,
                and they are not known.
            OutputError: a file cannot be written, or is in the way.
        """
        if formats is None:
            write_label(path, self.label)
            return
        if self.image_file is None or not self.classes:
            raise SettingsError(
                "formats need class names and an image that was given as a file, expected both; "
                "write_labels takes them"
            )
        write_labels(path, [(self.image_file, self.label)], self.classes, formats)

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """Confidence (H, W) float32 of the CAM's pseudo label, 0 to 1; computed at each call."""
        return None if self.cam is None else self.cam.label()[1]

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
        """Return figures for a JSON file; `classes` are the C foreground class names.

        Raises SettingsError for no list of names.
        """
        classes = as_texts(classes, "classes", "class names")
        # Pixels of each label value (256,); classes in neither label are omitted
        before, after = count_values(self.pseudo_label), count_values(self.label)
        present = [i for i in range(1, len(classes) + 1) if before[i] or after[i]]
        return {
            "size": list(self.label.shape),
            "classes": {
                classes[i - 1]: {
                    "pseudo_label_pixels": int(before[i]),
                    "pixels": int(after[i]),
                    **({"probability": float(self.cam.probabilities[i - 1])} if self.cam else {}),
                }
                for i in present
            },
            "changed": self.changed,
            "trust": round(self.trust, 4),
            "masks": len(self.masks),
            "seconds": {stage: round(taken, 3) for stage, taken in self.seconds.items()},
        }
