"""Boxes as YOLO stores them: one text file per image, one box per line."""

from __future__ import annotations

import math
from pathlib import Path
from reprlib import repr as short

from samrefine_runtime.class_names import FILE_NAME, read_classes
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.boxes.base import Box, BoxFormat
from samrefine_runtime.inputs import read_bytes
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import ByImage, image_id

_BOX, _PREDICTED = 5, 6
"""Values of a line: class and box, also with a confidence. More are a polygon's."""


class YoloBoxes(BoxFormat):
    """A folder of `<id>.txt`: `class x y width height` as fractions, x and y of the centre.

    Of a polygon (`class x y x y ...`) the box around it is taken; a confidence is ignored. An image
    without boxes has an empty file. The numbers are those of `classes.txt` in the folder or above
    it; without one, those of the given classes.
    """

    expected = "a folder of YOLO labels (.txt)"
    is_relative = True

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether it is a folder with text files."""
        return path.is_dir() and bool(_label_files(path))

    def __init__(self, path: Path, classes: tuple[str, ...] | None):
        """List the files. Raises SettingsError where nothing names the classes."""
        self.path = path
        self._files = ByImage({image_id(file, path): file for file in _label_files(path)})
        lists = [place / FILE_NAME for place in (path, path.resolve().parent)]
        named = next((file for file in lists if file.is_file()), None)
        if classes is None and named is None:
            raise SettingsError(
                f"{path}: YOLO's files number the classes; name them with --classes, or in a "
                f"{FILE_NAME} beside them"
            )
        # What the files' numbers mean, whatever order the label values are to have
        self._names = classes or () if named is None else read_classes(named)
        self.classes = classes or self._names

    def listed(self, image_id: str) -> list[Box]:
        """Read the lines of an image's file. Raises LabelError."""
        if image_id not in self._files:
            raise LabelError(
                f"no {image_id}.txt in {self.path}; an image without boxes has an empty file"
            )
        file = self._files[image_id]
        try:
            lines = read_bytes(file, LabelError).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise LabelError(f"{file}: not a text file ({error})") from error
        rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
        return [self._box(row, f"{file}:{number}") for number, row in rows]

    def _box(self, row: list[str], where: str) -> Box:
        """Return the box of a line. Raises LabelError."""
        try:
            index, values = int(row[0]), [float(text) for text in row[1:]]
        except ValueError:
            index, values = -1, []
        is_polygon = len(row) > _PREDICTED and len(row) % 2 == 1
        if not (is_polygon or len(row) in (_BOX, _PREDICTED)) or not all(
            map(math.isfinite, values)
        ):
            values = []
        if not values:
            raise LabelError(
                f"{where}: {short(' '.join(row))}, expected class x y width height, or class and a "
                "polygon"
            )
        if not 0 <= index < len(self._names):
            raise LabelError(f"{where}: class {index}, expected 0 to {len(self._names) - 1}")
        if is_polygon:
            across, down = values[0::2], values[1::2]
            return Box(self._names[index], min(across), min(down), max(across), max(down))
        x, y, width, height = values[:4]
        return Box(self._names[index], x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _label_files(folder: Path) -> list[Path]:
    return [file for file in files_in(folder, {".txt"}) if file.name != FILE_NAME]
