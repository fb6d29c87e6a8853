"""Label maps as a YOLO segmentation data set: one text file per image, one polygon per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.dataset import TRAIN, VAL, one_line_names, part_of, place_image
from samrefine_runtime.formats.polygons import TOLERANCE, Polygon, Region, regions
from samrefine_runtime.labels import LabelMap


class YoloLabels(LabelFormat):
    """`images/` and `labels/` with `train/` and `val/` each, `data.yaml` and `classes.txt`."""

    heeds = ("tolerance", "min_area", "objects", "split", "dataset_images")

    def path(self, image_id: str) -> Path:
        """Return the text file of an image."""
        return self.folder / "labels" / self._part(image_id) / f"{image_id}.txt"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the text file and place the image. Raises LabelError, ImageError or OutputError."""
        given, part = self.settings, self._part(image_id)
        tolerance = TOLERANCE if given.tolerance is None else given.tolerance
        found = self.annotated(image_id, label)
        _write_regions(self.path(image_id), found, label.shape, tolerance)
        # Labels are found by the image's name
        target = self.folder / "images" / part / f"{image_id}{image.suffix.lower()}"
        place_image(image, target, given.dataset_images)

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the files that name the parts and classes. Raises LabelError or OutputError."""
        write_yolo_dataset(self.folder, self.classes, {self._part(name) for name in images})

    def _part(self, image_id: str) -> str:
        return part_of(image_id, self.settings.split)


def write_yolo(
    path: str | Path,
    label: LabelMap,
    num_classes: int,
    *,
    tolerance: float = TOLERANCE,
    min_area: int = 1,
) -> None:
    """Write `class x y x y ...` for each connected region, holes cut into the polygon.

    Classes count from 0 without the background, coordinates are fractions of the image's width
    and height, 0 to 1. The file of a label without objects is empty.

    Args:
        path: text file to write.
        label: (H, W) uint8; background 0 and 255 are not annotated.
        num_classes: number of classes C with background.
        tolerance: distance in pixels by which a polygon may deviate, see `polygons.TOLERANCE`.
        min_area: area in pixels below which a region is omitted.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class that is not below C.
        OutputError: the file cannot be written.
    """
    _write_regions(path, regions(label, num_classes, min_area), label.shape, tolerance)


def _write_regions(
    path: str | Path, found: Iterable[Region], shape: tuple[int, ...], tolerance: float
) -> None:
    """Write the lines of regions of an image of `shape` (H, W)."""
    lines = [
        f"{region.class_id - 1} {_coordinates(region.polygon(tolerance), shape)}\n"
        for region in found
    ]
    write_bytes(path, "".join(lines).encode())


def _coordinates(polygon: Polygon, shape: tuple[int, ...]) -> str:
    """Format a polygon (V, 2) as fractions of the width and height of `shape` (H, W)."""
    height, width = shape
    return " ".join(f"{value:.6f}" for value in (polygon / (width, height)).ravel())


def write_yolo_dataset(folder: str | Path, classes: Sequence[str], parts: Collection[str]) -> None:
    """Write `classes.txt` and `data.yaml`, which name the classes without the background.

    There is no `path`: Ultralytics takes the folder of `data.yaml`. It wants images to train and to
    validate on, so a part that has none is the other one.

    Args:
        folder: folder of the data set, with `images/<part>` and `labels/<part>`.
        classes: names, background first.
        parts: those of TRAIN and VAL that have images.

    Raises:
        LabelError: a name has a line break.
        OutputError: a file cannot be written.
    """
    # A line break in a name would shift the lines of classes.txt
    names = list(one_line_names(classes[1:]))
    write_bytes(Path(folder) / "classes.txt", "".join(f"{name}\n" for name in names).encode())
    # A JSON string is a YAML string too, so names need no other quoting
    entries = "".join(f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(names))
    train = TRAIN if TRAIN in parts else VAL
    val = VAL if VAL in parts else TRAIN
    folders = f"train: images/{train}\nval: images/{val}\n"
    write_bytes(Path(folder) / "data.yaml", f"{folders}names:\n{entries}".encode())
