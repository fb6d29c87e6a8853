"""Label maps from COCO instances JSON: polygons and run lengths, of this package or corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

from samrefine_runtime.errors import LabelError, MaskFileError
from samrefine_runtime.formats.base import LabelReader
from samrefine_runtime.formats.class_values import checked_names, class_value
from samrefine_runtime.formats.coco import CocoFile, category_names
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.rasterise import as_polygon, fill_polygon, largest_first, paint
from samrefine_runtime.formats.records import runs_from_segmentation
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks import rle


class CocoReader(LabelReader):
    """A COCO file, or a folder with `annotations/*.json`, of which there is one.

    Where annotations overlap, the smaller one is on top. Without other names, the categories are
    the classes, in the order of their ids.
    """

    @classmethod
    def detects(cls, where: Path) -> bool:
        """Return whether this is a JSON file, or a folder with one in `annotations/`."""
        return where.suffix.lower() == ".json" or any(_annotation_files(where))

    def __init__(self, where: Path, classes: Sequence[str] | None, images: Mapping[str, Path]):
        path = _only_file(where)
        try:
            self._file = CocoFile(path)
        except MaskFileError as error:
            raise LabelError(str(error)) from error
        named = category_names(self._file.categories, path)
        names = {key: named[key] for key in sorted(named)}
        self.classes = checked_names(["background", *names.values()])
        known = self.classes if classes is None else tuple(classes)
        self._values = {key: class_value(name, known) for key, name in names.items()}
        self.files = dict.fromkeys(self._file.image_ids, path)

    def read(self, image_id: str) -> LabelMap:
        """Draw the annotations of an image. Raises LabelError."""
        try:
            image_shape = self._file.image_shape(image_id)
            annotations = self._file.annotations(image_id)
            shapes = [shape for each in annotations for shape in self._shapes(each, image_shape)]
        except (LabelError, MaskFileError) as error:
            raise LabelError(f"{self.files[image_id]}: {image_id}: {error}") from error
        return paint(image_shape, largest_first(shapes))

    def image(self, image_id: str) -> Path | None:
        """Return the image beside the annotations, as CVAT and datumaro lay it out, if any."""
        name = self._file.file_name(image_id)
        root = self.files[image_id].parent.parent / "images"
        found = (root / "default" / name, root / name)
        return next((path for path in found if path.is_file()), None)

    def _shapes(self, annotation: Mapping[str, Any], image_shape: ImageShape) -> list[Region]:
        """Return the pixels of an annotation. Raises LabelError or MaskFileError."""
        category = annotation.get("category_id")
        if type(category) is not int or category not in self._values:
            raise LabelError(
                f"annotation {short(annotation.get('id'))} has the category_id {short(category)}, "
                "which no category has"
            )
        value = self._values[category]
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            return [fill_polygon(as_polygon(each), image_shape, value) for each in segmentation]
        mask = rle.decode(runs_from_segmentation(segmentation, image_shape), image_shape)
        return [Region(value, 0, 0, mask)]


def _annotation_files(where: Path) -> list[Path]:
    return sorted((where / "annotations").glob("*.json"))


def _only_file(where: Path) -> Path:
    """Return the COCO file that is meant. Raises LabelError where there is none or several."""
    if not where.is_dir():
        return where
    files = _annotation_files(where)
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise LabelError(f"{where}: expected one file in annotations/, here are {names}")
    return files[0]
