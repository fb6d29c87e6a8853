"""The files that `samrefine label` writes: one folder per format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.errors import InputError
from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.report import PICTURE_SIDE, ReportEntry, write_report
from samrefine_runtime.report.overlay import draw_label, write_picture
from samrefine_runtime.results import LabelResult

BASE_FORMAT = "voc"
"""The format that is always written: files that span all images are made from it."""


def overlay_path(out: Path, image_id: str) -> Path:
    """Return where every command draws the overlay of an image."""
    return out / "overlays" / f"{image_id}.jpg"


class LabelWriter:
    """Writes the files of each image when it is done, and those that span all images at the end.

    The labels of the base format and the summary are always written. The summary comes last: it
    marks an image as complete.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        formats: Sequence[str],
        *,
        overlay: bool,
        report: bool,
        report_title: str = "Labelled images",
        picture_side: int = PICTURE_SIDE,
    ):
        """Choose what is written; nothing is written yet.

        Args:
            out: output folder.
            classes: foreground names (C,).
            formats: names in LABEL_FORMATS.
            overlay: whether to draw overlays.
            report: whether to write the report.
            report_title: heading of the report.
            picture_side: longer side of the report's pictures, pixels.
        """
        self.out, self.overlay, self.report = out, overlay, report
        self.report_title, self.picture_side = report_title, picture_side
        self.classes = ("background", *classes)
        names = dict.fromkeys((BASE_FORMAT, *formats))
        self.formats = {name: LABEL_FORMATS[name](out / name, self.classes) for name in names}

    def has(self, image_id: str) -> bool:
        """Return whether every file of an image in the chosen formats was written."""
        paths = [form.path(image_id) for form in self.formats.values()]
        files = [self._summary(image_id), *(path for path in paths if path is not None)]
        files += [overlay_path(self.out, image_id)] if self.overlay else []
        return all(file.is_file() for file in files)

    def write(
        self,
        path: Path,
        image: RgbImage,
        result: LabelResult,
        ground_truth: LabelMap | None = None,
    ) -> None:
        """Write all files of one image, the summary last. Raises OutputError."""
        for form in self.formats.values():
            form.write(path, result.label)
        if self.overlay:
            write_picture(overlay_path(self.out, path.stem), draw_label(image, result.label))
        if self.report:
            entry = ReportEntry.of(path.stem, image, result, ground_truth, side=self.picture_side)
            entry.write(self._entry(path.stem))
        elif self._entry(path.stem).is_file():
            # The entry of an earlier run does not show the new label
            self._entry(path.stem).unlink()
        summary = {"image": path.name, **result.summary(self.classes[1:])}
        write_bytes(self._summary(path.stem), (json.dumps(summary, indent=2) + "\n").encode())

    def finish(self, images: Mapping[str, Path]) -> None:
        """Write the files that span all images, given by id; each must be complete."""
        base = self.formats[BASE_FORMAT]
        for form in self.formats.values():
            form.finish(images, base.read)
        if self.report and images:
            self._write_report(images)

    def _write_report(self, images: Mapping[str, Path]) -> None:
        ready = [image_id for image_id, path in images.items() if self._ensure_entry(path)]
        write_report(
            self.out / "report.html",
            map(self._entry, ready),
            self.classes,
            title=self.report_title,
        )

    def _ensure_entry(self, path: Path) -> bool:
        """Make the report entry of an image where an earlier run left none that can be read.

        Returns:
            Whether there is an entry; without the image or its label, none can be made.
        """
        try:
            ReportEntry.read(self._entry(path.stem))
        except InputError:
            try:
                image, label = read_image(path), self.formats[BASE_FORMAT].read(path.stem)
            except InputError as error:
                click.echo(f"Warning: not in the report: {error}", err=True)
                return False
            entry = ReportEntry.of_label(path.stem, image, label, side=self.picture_side)
            entry.write(self._entry(path.stem))
        return True

    def _summary(self, image_id: str) -> Path:
        return self.out / "summary" / f"{image_id}.json"

    def _entry(self, image_id: str) -> Path:
        return self.out / "report" / f"{image_id}.json"
