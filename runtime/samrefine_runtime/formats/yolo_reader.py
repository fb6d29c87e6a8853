"""Label maps from YOLO segmentation labels, one text file of polygons per image."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.base import LabelReader
from samrefine_runtime.formats.class_values import checked_names
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.rasterise import as_polygon, fill_polygon, largest_first, paint
from samrefine_runtime.image import IMAGE_SUFFIXES, ImageShape, image_shape_of
from samrefine_runtime.inputs import read_bytes
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import image_id

_PARTS = ("train", "val", "valid", "validation", "test")
"""Folders that are parts of a data set and not of an image's id."""

_BOX_VALUES = 5
"""Values of a line of a detection: class, centre and size."""


class YoloReader(LabelReader):
    """A data set with `labels/` and `images/` beside it, or the folder of labels alone.

    Files hold fractions of the image's size, so the images are needed. Where polygons overlap, the
    smaller one is on top.
    """

    @classmethod
    def detects(cls, where: Path) -> bool:
        """Return whether there is a data set, or a folder of text files and no PNGs."""
        if not where.is_dir():
            return False
        is_set = (where / "data.yaml").is_file() or (where / "labels").is_dir()
        return is_set or (bool(_label_files(where)) and not files_in(where, {".png"}))

    def __init__(self, where: Path, classes: Sequence[str] | None, images: Mapping[str, Path]):
        folder = _labels(where)
        self.files = {_id(path, folder): path for path in _label_files(folder)}
        if not self.files:
            raise LabelError(f"{folder}: no YOLO labels here, which are .txt files")
        root = folder.parent
        self.classes = None if classes else _read_names(root)
        names = classes or self.classes
        if names is None:
            raise SettingsError(f"{root}: neither data.yaml nor classes.txt names the classes here")
        self._num_classes = len(names)
        self._images = {**_images(root / "images"), **images}

    def read(self, image_id: str) -> LabelMap:
        """Draw the polygons of an image. Raises LabelError, or ImageError for its image."""
        path, image = self.files[image_id], self.image(image_id)
        if image is None:
            raise LabelError(f"{path}: no image of this name, whose size the label needs")
        shape = image_shape_of(image)
        text = read_bytes(path, LabelError).decode(errors="replace")
        shapes = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                shapes += [self._shape(line.split(), shape)] if line.strip() else []
            except LabelError as error:
                raise LabelError(f"{path}, line {number}: {error}") from error
        return paint(shape, largest_first(shapes))

    def image(self, image_id: str) -> Path | None:
        """Return the image of the data set, or the one given."""
        return self._images.get(image_id)

    def _shape(self, words: Sequence[str], image_shape: ImageShape) -> Region:
        """Return the pixels of one line. Raises LabelError."""
        if len(words) == _BOX_VALUES:
            raise LabelError("a box, expected a polygon: class x y x y x y ...")
        class_id = int(words[0]) if words[0].isascii() and words[0].isdigit() else -1
        if not 0 <= class_id < self._num_classes - 1:
            raise LabelError(f"class {words[0]!r}, expected 0 to {self._num_classes - 2}")
        height, width = image_shape
        polygon = as_polygon(words[1:]) * (width, height)
        return fill_polygon(as_polygon(polygon), image_shape, class_id + 1)


def _labels(where: Path) -> Path:
    return where / "labels" if (where / "labels").is_dir() else where


def _label_files(folder: Path) -> list[Path]:
    """List the label files of a folder; a list of classes is none."""
    return [path for path in files_in(folder, {".txt"}) if path.name != "classes.txt"]


def _id(path: Path, folder: Path) -> str:
    """Return an image's id: the path in the folder, without the part of the data set."""
    name = image_id(path, folder)
    part, _, rest = name.partition("/")
    return rest if part in _PARTS and rest else name


def _images(folder: Path) -> dict[str, Path]:
    """Find the images of a data set by id."""
    return {_id(path, folder): path for path in files_in(folder, IMAGE_SUFFIXES)}


def _read_names(root: Path) -> tuple[str, ...] | None:
    """Read the classes of a data set, background first; None where no file names them.

    Raises LabelError.
    """
    for name, parse in (("data.yaml", _yaml_names), ("classes.txt", str.splitlines)):
        path = root / name
        if path.is_file():
            text = read_bytes(path, LabelError).decode(errors="replace")
            names = [each.strip() for each in parse(text)]
            if not names or not all(names):
                raise LabelError(f"{path}: the names of the classes are not understood")
            return checked_names(["background", *names])
    return None


def _yaml_names(text: str) -> Iterator[str]:
    """Yield the `names` of a data.yaml: a list or a numbered table, in one line or several.

    This is the part of YAML that data sets are written in; nothing else of the file is read.
    """
    found = re.search(r"^names:[ \t]*(.*(?:\n(?:[ \t]+|-).*|\n[ \t]*(?=\n))*)", text, re.MULTILINE)
    block = found.group(1).strip() if found else ""
    is_one_line = block[:1] in ("[", "{")
    pieces = block.strip("[]{}").split(",") if is_one_line else block.splitlines()
    entries = [piece for piece in pieces if piece.strip()]
    for entry in entries:
        yield _unquoted(re.sub(r"^(-|\d+\s*:)\s*", "", entry.strip()))


def _unquoted(text: str) -> str:
    """Return a YAML scalar without its quotes or its comment."""
    if text[:1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return ""
    if text[:1] == "'":
        return text[1:].rpartition("'")[0].replace("''", "'")
    return re.sub(r"\s+#.*", "", text)
