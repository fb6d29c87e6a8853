"""Settings of the label formats: what they draw, and how a data set is laid out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from samrefine_runtime.settings import Settings, choice, real, whole

OBJECTS = {"regions": "connected pixels of a class", "masks": "apart where SAM's masks tell apart"}

SHAPES = {"polygons": "", "masks": "exact; X-AnyLabeling does not open them"}

IMAGES = {"copy": "", "link": "hard links to the originals", "none": "labels only"}

_MOST_PIXELS = 2_147_000_000
"""More than any image has."""


@dataclass(frozen=True)
class FormatSettings(Settings):
    """Settings of the label formats; each format heeds those that it lists."""

    tolerance: float | None = real(
        None,
        0,
        1000,
        help="Pixels by which polygons may deviate; 0 is exact.  "
        "[default: 2 to edit (labelme, label-studio, cvat), else 0.25]",
    )
    """Distance in pixels by which a polygon may deviate from its region, to save vertices; None
    for the format's own: what a person can edit, or what draws the same pixels."""
    min_area: int = whole(1, 1, _MOST_PIXELS, help="Omit regions of fewer pixels.")
    """Area in pixels below which a region is omitted."""
    objects: str = choice("regions", OBJECTS, help="What is annotated as one object.")
    """Whether touching objects of a class are one, or apart where SAM's masks tell them apart."""
    shapes: str = choice("polygons", SHAPES, help="Shapes of labelme, label-studio, cvat.")
    """Whether labelme files may have shapes of type "mask", which X-AnyLabeling refuses, and Label
    Studio's have brushes, CVAT's masks."""
    split: float = real(0.2, 0, 1, help="Fraction of the images to validate on (yolo, voc-devkit).")
    """Fraction of the images of a data set for validation. An image's id decides where it goes, so
    that it stays there when images are added."""
    dataset_images: str = choice("copy", IMAGES, help="Images in the folders of formats.")
    """Whether a data set has copies of the images, hard links to them, or labels only."""

    def kind(self, form: str, heeds: Sequence[str]) -> str:
        """Return a text that differs for files of a format made with other settings.

        Args:
            form: name of the format.
            heeds: the fields on which its files depend.

        Returns:
            The name, and those fields that are not at their default.
        """
        default = {each.name: each.default for each in fields(self)}
        own = {name: getattr(self, name) for name in heeds}
        other = {name: value for name, value in own.items() if value != default[name]}
        return f"{form} {json.dumps(other)}" if other else form
