"""What `samrefine label` leaves behind: one folder a format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.errors import InputError
from samrefine_runtime.formats.coco import FILE_NAME, open_coco
from samrefine_runtime.formats.labelme import write_labelme
from samrefine_runtime.formats.yolo import write_yolo, write_yolo_dataset
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import read_label, write_label
from samrefine_runtime.pipeline import LabelResult
from samrefine_runtime.refine import Label
from samrefine_runtime.report import ReportEntry, write_report
from samrefine_runtime.report.overlay import draw_label, write_picture

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
        report_title: str = "Labelled photos",
        picture_side: int = 320,
    ):
        """`classes` are the foreground names, `formats` some of FORMATS.

        `picture_side` is the longer side, pixels, of the report's pictures.
        """
        self.out, self.formats, self.overlay, self.report = out, formats, overlay, report
        self.report_title, self.picture_side = report_title, picture_side
        self.classes = ("background", *classes)

    def has(self, image_id: str) -> bool:
        """Whether every file of a photo in the chosen formats was written."""
        files = [self._summary(image_id), self._label(image_id)]
        files += [self._labelme(image_id)] if "labelme" in self.formats else []
        files += [self._yolo(image_id)] if "yolo" in self.formats else []
        files += [self._overlay(image_id)] if self.overlay else []
        return all(file.is_file() for file in files)

    def write(
        self,
        photo: Path,
        image: RgbImage,
        result: LabelResult,
        ground_truth: Label | None = None,
    ) -> None:
        """All files of one photo. Raises OutputError."""
        name = photo.stem
        write_label(self._label(name), result.label)
        if "labelme" in self.formats:
            write_labelme(self._labelme(name), result.label, self.classes, photo.resolve())
        if "yolo" in self.formats:
            write_yolo(self._yolo(name), result.label, len(self.classes))
        if self.overlay:
            write_picture(self._overlay(name), draw_label(image, result.label))
        if self.report:
            entry = ReportEntry.of(name, image, result, ground_truth, side=self.picture_side)
            entry.write(self._entry(name))
        elif self._entry(name).is_file():
            # An earlier run's entry must not stand for the new label.
            self._entry(name).unlink()
        summary = {"image": photo.name, **result.summary(self.classes[1:])}
        write_bytes(self._summary(name), (json.dumps(summary, indent=2) + "\n").encode())

    def finish(self, photos: Mapping[str, Path]) -> None:
        """The files that span all `photos` (by id) that are complete."""
        for form in ("coco", "coco-rle"):
            if form in self.formats:
                self._write_coco(form, photos)
        if "yolo" in self.formats:
            write_yolo_dataset(self.out / "yolo", self.classes)
        if self.report and photos:
            self._write_report(photos)

    def _write_coco(self, form: str, photos: Mapping[str, Path]) -> None:
        with open_coco(self.out / form / FILE_NAME, self.classes) as coco:
            for image_id, photo in photos.items():
                label = read_label(self._label(image_id))
                coco.add_label(photo.name, label, form="polygons" if form == "coco" else "rle")

    def _write_report(self, photos: Mapping[str, Path]) -> None:
        ready = [image_id for image_id, photo in photos.items() if self._ensure_entry(photo)]
        write_report(
            self.out / "report.html",
            map(self._entry, ready),
            self.classes,
            title=self.report_title,
        )

    def _ensure_entry(self, photo: Path) -> bool:
        """Make the report entry of a photo that an earlier run labelled without a report."""
        name = photo.stem
        try:
            ReportEntry.read(self._entry(name))
        except InputError:
            try:
                image, label = read_image(photo), read_label(self._label(name))
            except InputError as error:
                click.echo(f"Warning: not in the report: {error}", err=True)
                return False
            entry = ReportEntry.of_label(name, image, label, side=self.picture_side)
            entry.write(self._entry(name))
        return True

    def _label(self, image_id: str) -> Path:
        return self.out / "voc" / f"{image_id}.png"

    def _labelme(self, image_id: str) -> Path:
        return self.out / "labelme" / f"{image_id}.json"

    def _yolo(self, image_id: str) -> Path:
        return self.out / "yolo" / "labels" / f"{image_id}.txt"

    def _overlay(self, image_id: str) -> Path:
        return self.out / "overlays" / f"{image_id}.jpg"

    def _summary(self, image_id: str) -> Path:
        return self.out / "summary" / f"{image_id}.json"

    def _entry(self, image_id: str) -> Path:
        return self.out / "report" / f"{image_id}.json"
