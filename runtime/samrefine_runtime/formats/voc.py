"""Label maps as PASCAL VOC stores them: one palette PNG per image."""

from __future__ import annotations

from pathlib import Path

from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.labels import LabelMap, read_label, write_label


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
