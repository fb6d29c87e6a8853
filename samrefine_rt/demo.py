"""The embedded demo images: procedural scenes with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import LabelMap, read_label

IMAGES = Path(__file__).parent / "demo_images"


@dataclass(frozen=True)
class DemoImage:
    """An embedded image with its image-level labels and its ground truth."""

    path: Path
    """The JPEG file."""
    image_labels: NDArray[np.bool_]
    """(C,) bool, the classes in the image: the demo's only input besides the image."""

    def read(self) -> RgbImage:
        """Read the image, (H, W, 3) uint8 RGB."""
        return read_image(self.path)

    def ground_truth(self) -> LabelMap:
        """Read the ground truth, (H, W) uint8; only figures and the report use it."""
        return read_label(self.path.with_suffix(".png"))


def demo_images(classes: Sequence[str], folder: Path | None = None) -> list[DemoImage]:
    """List the embedded images by name.

    Args:
        classes: foreground names (C,) of the demo bundle.
        folder: with `<name>.jpg`, `<name>.png` and `image_labels.csv`, None for the embedded one.

    Raises:
        SettingsError: the folder does not exist.
        LabelError: the image-level labels do not fit the classes.
    """
    folder = folder or IMAGES
    if not folder.is_dir():
        raise SettingsError("this build of samrefine holds no embedded demo images")
    labels = read_image_labels(folder / "image_labels.csv", classes)
    return [DemoImage(folder / f"{name}.jpg", labels[name]) for name in sorted(labels)]
