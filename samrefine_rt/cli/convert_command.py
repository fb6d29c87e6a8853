"""`samrefine convert`: labels of one format to others, and back to label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from samrefine_rt.cli.batch import Advance, Outcome, Write, run_batch
from samrefine_rt.cli.classes import classes_beside, classes_option, names_of
from samrefine_rt.cli.grouped import FORMATS, GroupedCommand, option
from samrefine_rt.cli.images import image_files
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    Given,
    NameList,
    RunOptions,
    output_options,
    run_options,
    settings_options,
)
from samrefine_rt.cli.outputs import finished_images
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.class_names import BACKGROUND, FILE_NAME, write_classes
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats import (
    BASE_FORMAT,
    LABEL_FORMATS,
    LABEL_READERS,
    LabelFormat,
    LabelReader,
    find_labels,
)
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.image import image_shape_of
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.names import ByImage
from samrefine_runtime.runs import HIDDEN, IMAGE, OutputFolder, Task


@click.command(cls=GroupedCommand)
@click.argument("labels", type=ExistingPath)
@option(
    "--to",
    "formats",
    type=NameList(LABEL_FORMATS),
    required=True,
    help=f"One or more of {', '.join(LABEL_FORMATS)}, separated by commas.",
)
@option(
    "--from",
    "source",
    type=click.Choice(list(LABEL_READERS)),
    help="Format of the labels.  [default: by the files that are there]",
)
@option(
    "--images",
    type=ExistingFolder,
    help="The images, by the same ids.  [default: those that the labels name]",
)
@classes_option("as the labels name them, or a file beside them")
@option("--out", required=True, type=Folder, help="Output folder: one folder for each format.")
@settings_options(FormatSettings, "format_settings", FORMATS)
@run_options
@output_options
def convert(
    labels: Path,
    formats: tuple[str, ...],
    source: str | None,
    images: Path | None,
    classes: tuple[str, ...] | None,
    out: Path,
    format_settings: Given[FormatSettings],
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Convert labels: label maps to other formats, and corrected files back to label maps.

    LABELS is the output folder of a command, a folder of label PNGs, labelme files or YOLO labels,
    VOC's tree, or a COCO file or its folder.
    """
    where = _labels_in(labels)
    source = source or find_labels(where)
    known = image_files([images]) if images is not None else {}
    reader, names = _open(where, source, classes, known)
    settings = format_settings.settings()
    conversion = _Conversion(out, reader, ByImage(known), names, formats, settings)
    with open_output(
        out,
        "convert",
        run,
        inputs=[labels, images],
        bundle=None,
        source=source,
        classes=list(names),
    ) as folder:
        outcome = run_batch(conversion.tasks(), conversion.work, folder, run, quiet=quiet)
        conversion.finish(folder, outcome)
    outcome.finish(quiet=quiet, json_file=json_file)


def _labels_in(where: Path) -> Path:
    """Return the label maps of an output folder; what is none is returned as it is."""
    is_output = (where / HIDDEN).is_dir() and (where / BASE_FORMAT).is_dir()
    return where / BASE_FORMAT if is_output else where


def _open(
    where: Path, source: str, given: tuple[str, ...] | None, images: Mapping[str, Path]
) -> tuple[LabelReader, tuple[str, ...]]:
    """Open labels, and return their foreground classes. Raises SettingsError."""
    beside = classes_beside(where if where.is_dir() else where.parent)
    known = given or beside
    try:
        reader = LABEL_READERS[source](where, (BACKGROUND, *known) if known else None, images)
    except LabelError as error:
        raise SettingsError(str(error)) from error
    own = reader.classes[1:] if reader.classes else None
    return reader, known or own or names_of(reader.files, given=None, num_classes=None, beside=None)


class _Conversion:
    """Labels on their way from one format to others."""

    def __init__(
        self,
        out: Path,
        reader: LabelReader,
        images: Mapping[str, Path],
        classes: Sequence[str],
        formats: Sequence[str],
        settings: FormatSettings,
    ):
        """Choose what is written; nothing is written yet.

        Args:
            out: output folder.
            reader: of the labels.
            images: files of the images by id, as far as they were given.
            classes: foreground names (C,).
            formats: names in LABEL_FORMATS.
            settings: of the formats.

        Raises:
            SettingsError: a format needs images, and none is known.
        """
        self.out, self.reader, self.formats, self.settings = out, reader, formats, settings
        self.classes = (BACKGROUND, *classes)
        found = {name: images.get(name) or reader.image(name) for name in reader.files}
        self.images = {name: path for name, path in found.items() if path is not None}
        self.needs_images = [name for name in formats if LABEL_FORMATS[name].needs_images]
        if self.needs_images and not self.images:
            raise SettingsError(
                f"{', '.join(self.needs_images)} needs the images, and the labels name none that "
                "is there: give --images"
            )

    def tasks(self) -> list[Task]:
        """Return what is to be done for each label."""
        kinds = tuple(map(self._kind, self.formats))
        return [
            Task(IMAGE + name, str(self.images.get(name, path)), kinds, files=self._files(name))
            for name, path in self.reader.files.items()
        ]

    def work(self, task: Task, missing: Sequence[str], advance: Advance) -> Write:
        """Read a label and return what writes it in all formats.

        Raises LabelError or ImageError where it or its image cannot be read.
        """
        name = task.key.removeprefix(IMAGE)
        image = self.images.get(name)
        if image is None and self.needs_images:
            raise LabelError(f"no image of {name}, which {', '.join(self.needs_images)} needs")
        label = self._read(name)
        if image is not None and image_shape_of(image) != label.shape:
            height, width = image_shape_of(image)
            raise LabelError(
                f"label is {label.shape[1]} x {label.shape[0]} pixels, its image {image} is "
                f"{width} x {height}"
            )
        path = image or self.reader.files[name]
        return partial(self._write, name, path, label)

    def finish(self, folder: OutputFolder, outcome: Outcome) -> None:
        """Write the files that span all images. Raises StorageError."""
        paths = {name: self.images.get(name, path) for name, path in self.reader.files.items()}
        finished = finished_images(folder, paths)
        # Labels of earlier runs that are gone cannot be read again
        there = {name: path for name, path in finished.items() if name in paths}
        with outcome.keeping_failure(FILE_NAME):
            folder.span("classes", list(self.classes), self._write_classes)
        given = [list(self.classes), folder.digest(IMAGE + name for name in there), *there]
        for name in self.formats:
            with outcome.keeping_failure(name):
                write = partial(self._finish, name, there)
                folder.span(name, [self._kind(name), *given], write)
        folder.sweep()

    def _files(self, name: str) -> dict[str, Path]:
        """Return what the outputs of an image are made from, by role."""
        image = {"image": self.images[name]} if name in self.images else {}
        return {"label": self.reader.files[name], **image}

    def _read(self, name: str) -> LabelMap:
        return self.reader.read(name)

    def _write(self, name: str, path: Path, label: LabelMap, staging: Path) -> None:
        for form in self.formats:
            self._format(staging, form).write(name, path, label)

    def _write_classes(self, staging: Path) -> None:
        write_classes(staging / FILE_NAME, self.classes)

    def _finish(self, form: str, images: Mapping[str, Path], staging: Path) -> None:
        (staging / form).mkdir()
        self._format(staging, form).finish(images, self._read)

    def _format(self, out: Path, name: str) -> LabelFormat:
        return LABEL_FORMATS[name](
            out / name, self.classes, home=self.out / name, settings=self.settings
        )

    def _kind(self, name: str) -> str:
        return self.settings.kind(name, LABEL_FORMATS[name].heeds)
