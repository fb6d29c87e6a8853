"""Label maps as the tree of PASCAL VOC's development kit, which torchvision and datumaro open.

VOCdevkit/VOC2012/JPEGImages, SegmentationClass, ImageSets/Segmentation, labelmap.txt
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.dataset import TRAIN, VAL, one_line_names, part_of, place_jpeg
from samrefine_runtime.labels import IGNORE, PALETTE, LabelMap, read_label, write_label

TREE = Path("VOCdevkit", "VOC2012")
"""Folder of the data set; torchvision looks for it under its `root`."""

VOID = "ignored"
"""What datumaro and CVAT call the pixels of no class."""


class VocDevkitLabels(LabelFormat):
    """`VOCdevkit/VOC2012/`, with images that are JPEG files as in VOC."""

    heeds = ("split", "dataset_images")

    def path(self, image_id: str) -> Path:
        """Return the PNG of an image."""
        return self.folder / TREE / "SegmentationClass" / f"{image_id}.png"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the PNG and place the image. Raises LabelError, ImageError or OutputError."""
        highest = int(label[label != IGNORE].max(initial=0))
        if highest >= len(self.classes):
            raise LabelError(f"label has class {highest}, expected below {len(self.classes)}")
        write_label(self.path(image_id), label)
        target = self.folder / TREE / "JPEGImages" / f"{image_id}.jpg"
        place_jpeg(image, target, self.settings.dataset_images)

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the lists of images and the class names. Raises LabelError or OutputError."""
        parts = {name: part_of(name, self.settings.split) for name in images}
        lists = {
            TRAIN: [name for name, part in parts.items() if part == TRAIN],
            VAL: [name for name, part in parts.items() if part == VAL],
            "trainval": list(parts),
        }
        for part, names in lists.items():
            text = "".join(f"{name}\n" for name in names)
            path = self.folder / TREE / "ImageSets" / "Segmentation" / f"{part}.txt"
            write_bytes(path, text.encode(errors="surrogateescape"))
        has_void = any((read_label(name) == IGNORE).any() for name in images)
        write_bytes(self.folder / TREE / "labelmap.txt", self._label_map(has_void).encode())

    def read(self, image_id: str) -> LabelMap:
        """Read the PNG. Raises LabelError."""
        return read_label(self.path(image_id))

    def _label_map(self, has_void: bool) -> str:
        """Return the lines `name:r,g,b:parts:actions` that give each colour its name."""
        # A line that begins with # is a comment
        names: Iterable[str] = one_line_names(self.classes, ":#")
        entries = [(name, index) for index, name in enumerate(names)]
        entries += [(VOID, IGNORE)] if has_void else []
        lines = [f"{name}:{','.join(map(str, PALETTE[index]))}::\n" for name, index in entries]
        return "# label:color_rgb:parts:actions\n" + "".join(lines)
