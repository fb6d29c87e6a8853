"""The embedded demo photos: procedural scenes with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.refine import Label

IMAGES = Path(__file__).parent / "demo_images"


@dataclass(frozen=True)
class DemoPhoto:
    """One photo and all that is known of it."""

    path: Path
    image_labels: NDArray[np.bool_]
    """(C,) which classes are in it: all that the demo is told"""

    def image(self) -> RgbImage:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.path)

    def ground_truth(self) -> Label:
        """(H, W) uint8, only for measuring."""
        return read_label(self.path.with_suffix(".png"))


def demo_photos(classes: Sequence[str], folder: Path | None = None) -> list[DemoPhoto]:
    """The embedded photos by name.

    Args:
        classes: foreground names (C,) of the demo bundle.
        folder: of `<name>.jpg`, `<name>.png` and `image_labels.csv`, None for the embedded one.

    Raises:
        SettingsError: this build holds none.
        LabelError: image-level labels that do not go with the classes.
    """
    folder = folder or IMAGES
    if not folder.is_dir():
        raise SettingsError("this build of samrefine holds no embedded demo photos")
    labels = read_image_labels(folder / "image_labels.csv", classes)
    return [DemoPhoto(folder / f"{name}.jpg", labels[name]) for name in sorted(labels)]
