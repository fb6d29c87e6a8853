"""The files of labels that `label`, `refine`, `segment` and `demo` write: one folder per format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from samrefine_rt.cli.batch import Outcome
from samrefine_rt.cli.bundles import warn
from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.class_names import BACKGROUND, FILE_NAME, write_classes
from samrefine_runtime.errors import InputError
from samrefine_runtime.formats import BASE_FORMAT, LABEL_FORMATS, LabelFormat
from samrefine_runtime.formats.base import ReadObjects
from samrefine_runtime.formats.objects import find_objects, read_objects, write_objects
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import LabelMap, read_label
from samrefine_runtime.report import (
    PICTURE_SIDE,
    VERSION,
    ReportEntry,
    check_ground_truth,
    write_report,
)
from samrefine_runtime.report.overlay import draw_label, write_picture
from samrefine_runtime.results import LabelResult
from samrefine_runtime.runs import HIDDEN, IMAGE, OutputFolder, Task
from samrefine_runtime.segment import SegmentResult

OBJECTS, SUMMARY, OVERLAY, REPORT = "objects", "summary", "overlay", f"report {VERSION}"
"""Kinds of output of an image beside its label formats; entries of the report are made anew where
their layout has another version."""


class GroundTruth:
    """The ground truth of images, where there is any: it is only for the report."""

    _ROLE = "ground truth"

    def __init__(self, folder: Path | None):
        self.folder = folder

    def files(self, name: str) -> dict[str, Path]:
        """Return the file of an image id by its role in a task; nothing where there is none."""
        path = None if self.folder is None else self.folder / f"{name}.png"
        return {} if path is None or not path.is_file() else {self._ROLE: path}

    def read(self, task: Task, image: RgbImage | None) -> LabelMap | None:
        """Read the ground truth of a task, if any, which must fit the image. Raises LabelError."""
        path = task.files.get(self._ROLE)
        if path is None or image is None:
            return None
        truth = read_label(path)
        check_ground_truth(truth, image)
        return truth


def overlay_path(out: Path, name: str) -> Path:
    """Return where every command draws the overlay of an image id."""
    return out / "overlays" / f"{name}.jpg"


def finished_images(folder: OutputFolder, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of all finished images by id: those of this run, then those of earlier ones.

    Args:
        folder: the output folder.
        images: the images of this run, by id.
    """
    done = {*folder.done(IMAGE)}
    known = {name: path for name, path in images.items() if IMAGE + name in done}
    earlier = sorted(done - {IMAGE + name for name in images})
    return {**known, **{key.removeprefix(IMAGE): Path(folder.label(key)) for key in earlier}}


class LabelWriter:
    """Writes the files of each image when it is done, and those that span all images at the end.

    The labels of the base format, their objects and the summary are always written.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        formats: Sequence[str],
        *,
        overlay: bool = False,
        report: bool = False,
        report_title: str = "Labelled images",
        picture_side: int = PICTURE_SIDE,
        settings: FormatSettings | None = None,
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
            settings: of the formats, None for FormatSettings().
        """
        self.out, self.report_title, self.picture_side = out, report_title, picture_side
        self.settings = settings or FormatSettings()
        self.classes = (BACKGROUND, *classes)
        self.formats = tuple(dict.fromkeys((BASE_FORMAT, *formats)))
        pictures = [OVERLAY] * overlay + [REPORT] * report
        self.derived = (*map(self._kind, self.formats[1:]), *pictures)
        self.kinds = (BASE_FORMAT, OBJECTS, SUMMARY, *self.derived)
        self.draws = overlay or report

    @property
    def images_for(self) -> str:
        """What cannot be written without the images, for messages; "" if all can."""
        named = [name for name in self.formats if LABEL_FORMATS[name].needs_images]
        drawn = ["--overlay"] * (OVERLAY in self.kinds) + ["--report"] * (REPORT in self.kinds)
        return ", ".join([*drawn, *(f"--format {name}" for name in named)])

    def task(self, name: str, label: str, files: Mapping[str, Path], given: Any = None) -> Task:
        """Return what is to be done for an image id: `label` is how messages call it."""
        return Task(IMAGE + name, label, self.kinds, self.derived, files, given)

    def write(
        self,
        staging: Path,
        name: str,
        path: Path,
        image: RgbImage | None,
        result: LabelResult | SegmentResult,
        ground_truth: LabelMap | None = None,
    ) -> None:
        """Write all files of one image.

        Args:
            staging: folder laid out as the output folder.
            name: the image's id.
            path: file of the image.
            image: (H, W, 3) uint8 RGB; None where nothing is drawn.
            result: of that image.
            ground_truth: (H, W) uint8, for the report.

        Raises:
            OutputError: a file cannot be written.
        """
        objects = _found(result)
        self._write_label(staging, name, path, image, result.label, objects, self.kinds)
        # Formats that are asked for later need them
        if objects is not None:
            write_objects(_objects(staging, name), objects, result.masks.image_shape)
        if REPORT in self.kinds and image is not None:
            entry = (
                ReportEntry.of_label(name, image, result.label, side=self.picture_side)
                if isinstance(result, SegmentResult)
                else ReportEntry.of(name, image, result, ground_truth, side=self.picture_side)
            )
            entry.write(_entry(staging, name))
        summary = {"image": path.name, **result.summary(self.classes[1:])}
        if objects is not None:
            summary["objects"] = [_figures(each, self.classes) for each in objects]
        write_bytes(_summary(staging, name), (json.dumps(summary, indent=2) + "\n").encode())

    def derive(self, staging: Path, name: str, path: Path, kinds: Sequence[str]) -> None:
        """Write some kinds of files of an image that an earlier run labelled.

        The report then shows the label alone.

        Raises:
            ImageError: the image is needed and cannot be read.
            LabelError: its label cannot be read.
            OutputError: a file cannot be written.
        """
        label = self._base(self.out).read(name)
        image = read_image(path) if {OVERLAY, REPORT} & {*kinds} else None
        self._write_label(staging, name, path, image, label, self._read_objects(name), kinds)
        if REPORT in kinds and image is not None:
            entry = ReportEntry.of_label(name, image, label, side=self.picture_side)
            entry.write(_entry(staging, name))

    def finish(self, folder: OutputFolder, images: Mapping[str, Path], outcome: Outcome) -> None:
        """Write the files that span all images, those of earlier runs included.

        Args:
            folder: the output folder.
            images: the images of this run, by id.
            outcome: keeps what cannot be written.

        Raises:
            StorageError: the disk takes no more.
        """
        finished = finished_images(folder, images)
        with outcome.keeping_failure(FILE_NAME):
            folder.span("classes", list(self.classes), self._write_classes)
        given = [list(self.classes), folder.digest(IMAGE + name for name in finished)]
        for name in self.formats:
            with outcome.keeping_failure(name):
                folder.span(name, [self._kind(name), *given], partial(self._finish, name, finished))
        if REPORT in self.kinds and finished:
            with outcome.keeping_failure("report"):
                shown = [self.report_title, *given, [str(path) for path in finished.values()]]
                folder.span(REPORT, shown, partial(self._report, finished))
        folder.sweep()

    def _write_label(
        self,
        staging: Path,
        name: str,
        path: Path,
        image: RgbImage | None,
        label: LabelMap,
        objects: Sequence[Region] | None,
        kinds: Sequence[str],
    ) -> None:
        """Write a label (H, W) uint8 in those formats that are among the kinds, and the overlay."""
        for form in self.formats:
            if self._kind(form) in kinds:
                self._format(staging, form, lambda _: objects).write(name, path, label)
        if OVERLAY in kinds and image is not None:
            write_picture(overlay_path(staging, name), draw_label(image, label))

    def _write_classes(self, staging: Path) -> None:
        write_classes(staging / FILE_NAME, self.classes)

    def _finish(self, name: str, images: Mapping[str, Path], staging: Path) -> None:
        """Write the files of a format that span all images."""
        (staging / name).mkdir()
        form = self._format(staging, name, self._read_objects)
        form.finish(images, self._base(self.out).read)

    def _report(self, images: Mapping[str, Path], staging: Path) -> None:
        """Write the page of all images that have an entry; one without is shown as a warning."""
        ready = [name for name in images if self._has_entry(name)]
        base = self._base(self.out)
        write_report(
            staging / "report.html",
            (_entry(self.out, name) for name in ready),
            self.classes,
            title=self.report_title,
            image_files={name: images[name] for name in ready},
            label_files={name: path for name in ready if (path := base.path(name))},
            home=self.out,
        )

    def _has_entry(self, name: str) -> bool:
        try:
            ReportEntry.read(_entry(self.out, name))
        except InputError as error:
            warn(f"not in the report: {error}")
            return False
        return True

    def _read_objects(self, name: str) -> list[Region] | None:
        """Read the objects of an image id, None where there are none. Raises LabelError."""
        path = _objects(self.out, name)
        return read_objects(path) if path.is_file() else None

    def _base(self, out: Path) -> LabelFormat:
        return self._format(out, BASE_FORMAT)

    def _format(
        self, out: Path, name: str, read_objects: ReadObjects = lambda name: None
    ) -> LabelFormat:
        """Return the format of a name in an output or staging folder."""
        return LABEL_FORMATS[name](
            out / name,
            self.classes,
            home=self.out / name,
            settings=self.settings,
            read_objects=read_objects,
        )

    def _kind(self, name: str) -> str:
        """Return the kind of output of a format: with other settings it is another, made anew."""
        return self.settings.kind(name, LABEL_FORMATS[name].heeds)


def _found(result: LabelResult | SegmentResult) -> list[Region] | None:
    """Return the objects of a result, the least sure first; None where they are not known."""
    if isinstance(result, SegmentResult):
        return find_objects(result.label, result.label, result.masks, result.values)
    return result.objects


def _figures(found: Region, classes: Sequence[str]) -> dict[str, Any]:
    """Return what a summary says of an object; the least sure ones come first."""
    confidence = round(found.confidence or 0.0, 4)
    name = classes[found.class_id]
    return {"class": name, "confidence": confidence, "area": found.area, "bbox": found.bbox}


def _objects(out: Path, name: str) -> Path:
    """Return where objects are kept for formats that are asked for later."""
    return out / HIDDEN / "objects" / f"{name}.json"


def _summary(out: Path, name: str) -> Path:
    return out / "summary" / f"{name}.json"


def _entry(out: Path, name: str) -> Path:
    return out / "report" / f"{name}.json"
