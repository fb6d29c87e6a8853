"""What `samrefine label` leaves behind: one folder a format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.formats.coco import FILE_NAME, open_coco
from samrefine_runtime.formats.labelme import write_labelme
from samrefine_runtime.formats.voc import read_label, write_label
from samrefine_runtime.formats.yolo import write_yolo, write_yolo_dataset
from samrefine_runtime.image import RgbImage
from samrefine_runtime.overlay import draw_label, write_picture
from samrefine_runtime.pipeline import LabelResult

FORMATS = ("voc", "coco", "coco-rle", "labelme", "yolo")


class LabelWriter:
    """Writes each photo's files as it is done, and what spans all photos at the end.

    The VOC label and the summary are always written; the summary comes last and tells that a
    photo is complete.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        formats: Sequence[str],
        *,
        overlay: bool,
        report: bool,
    ):
        """`classes` are the foreground names, `formats` some of FORMATS."""
        self.out, self.formats, self.overlay, self.report = out, formats, overlay, report
        self.classes = ("background", *classes)

    def has(self, image_id: str) -> bool:
        """Whether everything of a photo was written."""
        return self._summary(image_id).is_file()

    def write(self, photo: Path, image: RgbImage, result: LabelResult) -> None:
        """All files of one photo. Raises OutputError."""
        name = photo.stem
        write_label(self._label(name), result.label)
        if "labelme" in self.formats:
            write_labelme(
                self.out / "labelme" / f"{name}.json", result.label, self.classes, photo.resolve()
            )
        if "yolo" in self.formats:
            write_yolo(
                self.out / "yolo" / "labels" / f"{name}.txt", result.label, len(self.classes)
            )
        if self.overlay:
            write_picture(self.out / "overlays" / f"{name}.jpg", draw_label(image, result.label))
        summary = {"image": photo.name, **result.summary(self.classes[1:])}
        write_bytes(self._summary(name), (json.dumps(summary, indent=2) + "\n").encode())

    def finish(self, photos: Mapping[str, Path]) -> None:
        """The files that span all `photos` (by id) that are complete."""
        for form in ("coco", "coco-rle"):
            if form in self.formats:
                self._write_coco(form, photos)
        if "yolo" in self.formats:
            write_yolo_dataset(self.out / "yolo", self.classes)

    def _write_coco(self, form: str, photos: Mapping[str, Path]) -> None:
        with open_coco(self.out / form / FILE_NAME, self.classes) as coco:
            for image_id, photo in photos.items():
                label = read_label(self._label(image_id))
                coco.add_label(photo.name, label, form="polygons" if form == "coco" else "rle")

    def _label(self, image_id: str) -> Path:
        return self.out / "voc" / f"{image_id}.png"

    def _summary(self, image_id: str) -> Path:
        return self.out / "summary" / f"{image_id}.json"
