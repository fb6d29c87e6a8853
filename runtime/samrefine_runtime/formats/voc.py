"""Label maps as PASCAL VOC stores them: one palette PNG per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.base import LabelFormat, LabelReader
from samrefine_runtime.labels import PALETTE, LabelMap, read_label, write_label
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import image_id


class VocLabels(LabelFormat):
    """`<id>.png`, whose palette indices are the classes."""

    needs_images = False

    def path(self, image_id: str) -> Path:
        """Return the PNG of an image."""
        return self.folder / f"{image_id}.png"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the PNG. Raises LabelError or OutputError."""
        write_label(self.path(image_id), label)

    def read(self, image_id: str) -> LabelMap:
        """Read the PNG. Raises LabelError."""
        return read_label(self.path(image_id))


class VocReader(LabelReader):
    """A folder of label PNGs, or the tree of VOC's development kit."""

    @classmethod
    def detects(cls, where: Path) -> bool:
        """Return whether there are label PNGs."""
        return where.is_dir() and bool(files_in(_folder(where), {".png"}))

    def __init__(self, where: Path, classes: Sequence[str] | None, images: Mapping[str, Path]):
        folder = _folder(where)
        self.files = {image_id(path, folder): path for path in files_in(folder, {".png"})}
        if not self.files:
            raise LabelError(f"{folder}: no label PNGs here")
        names = folder.parent / "labelmap.txt"
        self.classes = _read_label_map(names) if names.is_file() else None
        self._images = folder.parent / "JPEGImages"

    def read(self, image_id: str) -> LabelMap:
        """Read the PNG. Raises LabelError."""
        return read_label(self.files[image_id])

    def image(self, image_id: str) -> Path | None:
        """Return the JPEG of the tree, if there is one."""
        path = self._images / f"{image_id}.jpg"
        return path if path.is_file() else None


def _folder(where: Path) -> Path:
    """Return the folder of PNGs in a tree of VOC's, else the folder itself."""
    for below in ("", "VOCdevkit/VOC2012"):
        if (where / below / "SegmentationClass").is_dir():
            return where / below / "SegmentationClass"
    return where


def _read_label_map(path: Path) -> tuple[str, ...]:
    """Read the names of labelmap.txt, background first.

    Raises LabelError where the colours are not VOC's in VOC's order: the PNGs may then store other
    values than the lines say.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    entries = [line.split(":") for line in lines if line.strip() and line[0] != "#"]
    names, colours = [entry[0] for entry in entries], [entry[1:2] for entry in entries]
    if names and colours[-1] == [",".join(map(str, PALETTE[-1]))]:
        names.pop()  # void
    if colours[: len(names)] != [[",".join(map(str, rgb))] for rgb in PALETTE[: len(names)]]:
        raise LabelError(f"{path}: the colours are not those of VOC's palette in its order")
    return tuple(names)
