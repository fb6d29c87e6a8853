"""Writes the demo images that are embedded in the package."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from samrefine_export.demo.scenes import CLASSES, Scene, make_scene
from samrefine_runtime.atomic import atomic_folder, write_bytes
from samrefine_runtime.labels import write_label

SIZES: tuple[tuple[int, int], ...] = (
    (320, 480),
    (360, 480),
    (480, 360),
    (320, 426),
    (480, 320),
    (360, 480),
)
"""Shapes (H, W) of the images in turn."""


LABELS = "image_labels.csv"
"""File of the image-level labels."""

DEMO_SCENES = {
    "scene-1": 20_000_001,
    "scene-2": 20_000_002,
    "scene-3": 20_000_003,
    "scene-4": 20_000_004,
    "scene-5": 20_000_005,
    "scene-6": 20_000_006,
}
"""Seeds of the embedded images; none was trained or tuned on."""


def write_demo_images(folder: str | Path, seeds: Mapping[str, int], quality: int = 90) -> None:
    """Write `<name>.jpg`, `<name>.png` and `image_labels.csv`, replacing files of these names.

    Args:
        folder: where the package looks is `samrefine_rt/demo_images`.
        seeds: scene of each image by name; shapes are those of SIZES in turn.
        quality: of the JPEGs, 0 to 100.
    """
    # One row per image: its name and the names of its classes
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(("image", "labels"))
    written = [f"{name}{suffix}" for name in seeds for suffix in (".jpg", ".png")]
    with atomic_folder(folder, replaces=[*written, LABELS]) as fresh:
        for index, (name, seed) in enumerate(seeds.items()):
            scene = make_scene(seed, SIZES[index % len(SIZES)])
            Image.fromarray(scene.image).save(fresh / f"{name}.jpg", quality=quality, subsampling=0)
            write_label(fresh / f"{name}.png", scene.label)
            rows.writerow((name, ";".join(_names(scene))))
        write_bytes(fresh / LABELS, lines.getvalue().encode())


def _names(scene: Scene) -> list[str]:
    return [name for name, here in zip(CLASSES, scene.image_labels, strict=True) if here]
