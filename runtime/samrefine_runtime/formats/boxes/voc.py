"""Boxes as PASCAL VOC stores them: one XML file per image."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.boxes.base import Box, BoxFormat
from samrefine_runtime.formats.image_labels import parse_annotation
from samrefine_runtime.labels import VOC_CLASSES
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import ByImage, image_id


class VocBoxes(BoxFormat):
    """A folder of annotations `<id>.xml`; all objects count, difficult ones too.

    Corners are pixels counted from 1, both inclusive, as VOC's development kit has them.
    """

    expected = "a folder of VOC annotations (.xml)"

    @classmethod
    def fits(cls, path: Path) -> bool:
        """Return whether it is a folder with XML files."""
        return path.is_dir() and bool(files_in(path, {".xml"}))

    def __init__(self, path: Path, classes: tuple[str, ...] | None):
        """List the files; without classes, all are read for their names. Raises SettingsError."""
        self.path = path
        files = files_in(path, {".xml"})
        self._files = ByImage({image_id(file, path): file for file in files})
        self.classes = classes or self._named()

    def listed(self, image_id: str) -> list[Box]:
        """Read the objects of an image's file. Raises LabelError."""
        if image_id not in self._files:
            raise LabelError(f"no {image_id}.xml in {self.path}")
        file = self._files[image_id]
        return [_box(item, file) for item in parse_annotation(file).findall("object")]

    def _named(self) -> tuple[str, ...]:
        """Return the classes of all files: VOC's in its order where they are VOC's, else sorted."""
        names: set[str] = set()
        for file in self._files.values():
            try:
                objects = parse_annotation(file).findall("object")
            except LabelError:  # raised again, and kept, when the image is worked on
                continue
            names |= {_name(item) for item in objects} - {""}
        if not names:
            raise SettingsError(f"{self.path}: no file here names an object")
        return VOC_CLASSES[1:] if names <= {*VOC_CLASSES[1:]} else tuple(sorted(names))


def _name(item: ElementTree.Element) -> str:
    return (item.findtext("name") or "").strip()


def _box(item: ElementTree.Element, file: Path) -> Box:
    """Return the box of an object. Raises LabelError."""
    corners = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(text or "") for text in corners)
    except ValueError:
        left = top = right = bottom = math.nan
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise LabelError(
            f"{file}: an object {_name(item)!r} has the corners {corners}, expected numbers xmin, "
            "ymin, xmax, ymax in a bndbox"
        )
    # From pixels counted from 1, both inclusive, to edges
    return Box(_name(item), left - 1, top - 1, right, bottom)
