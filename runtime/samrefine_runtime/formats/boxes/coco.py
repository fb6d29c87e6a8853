"""Boxes as COCO stores them: one JSON file for all images."""

from __future__ import annotations

from pathlib import Path
from reprlib import repr as short
from typing import Any

from samrefine_runtime.errors import LabelError, MaskFileError, SettingsError
from samrefine_runtime.formats.boxes.base import Box, BoxFormat
from samrefine_runtime.formats.coco import CocoFile, category_names
from samrefine_runtime.formats.records import is_number


class CocoBoxes(BoxFormat):
    """A COCO file whose annotations have `bbox` [x, y, width, height]; crowds count too.

    An image without annotations has no boxes. Classes are the categories by ascending id.
    """

    expected = "a COCO file (.json)"

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether it is a JSON file."""
        return path.is_file() and path.suffix.lower() == ".json"

    def __init__(self, path: Path, classes: tuple[str, ...] | None):
        """Read the file. Raises SettingsError."""
        self.path = path
        try:
            self._file = CocoFile(path)
        except MaskFileError as error:
            raise SettingsError(str(error)) from error
        self._names = category_names(self._file.categories, path)
        self.classes = classes or tuple(self._names[key] for key in sorted(self._names))

    def listed(self, image_id: str) -> list[Box]:
        """Return the boxes of an image's annotations. Raises LabelError."""
        if image_id not in self._file:
            raise LabelError(f"{self.path}: no image {image_id}")
        return [self._box(each) for each in self._file.annotations(image_id)]

    def _box(self, annotation: dict[str, Any]) -> Box:
        """Return the box of an annotation. Raises LabelError."""
        where = f"{self.path}: annotation {short(annotation.get('id'))}"
        bbox, category = annotation.get("bbox"), annotation.get("category_id")
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
            raise LabelError(f"{where}: bbox is {short(bbox)}, expected [x, y, width, height]")
        if type(category) is not int or category not in self._names:
            raise LabelError(f"{where}: category_id is {short(category)}, which no category has")
        left, top, width, height = bbox
        return Box(self._names[category], left, top, left + width, top + height)
