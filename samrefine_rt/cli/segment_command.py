"""`samrefine segment`: points and boxes to masks and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from samrefine_rt.cli.batch import Advance, Write, run_batch
from samrefine_rt.cli.bundles import open_bundle, warn
from samrefine_rt.cli.classes import classes_option
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.images import find_images, images_argument
from samrefine_rt.cli.label_options import LabelOutputs, unscored_output_options
from samrefine_rt.cli.mask_outputs import MaskWriter
from samrefine_rt.cli.options import (
    ExistingPath,
    Folder,
    NameList,
    RunOptions,
    bundle_option,
    output_options,
    run_options,
    session_options,
)
from samrefine_rt.cli.outputs import LabelWriter
from samrefine_rt.cli.prompts import BoxPrompt, PointPrompt, PromptBox, PromptPoint
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.arguments import unknown_class
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats import MASK_FORMATS
from samrefine_runtime.formats.boxes import BoxFormat, open_boxes
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.report import picture_side
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.segment import Segmenter, SegmentResult

_MASKS = "masks"
"""Folder of the masks in the output folder."""

_OBJECT = "object"
"""Name of the class where nothing names one."""

_SHOWN = 5
"""Images without a mask for a prompt that a warning names."""


@click.command(cls=GroupedCommand)
@images_argument()
@bundle_option()
@option("--out", required=True, type=Folder, help="Output folder.")
@option(
    "--boxes",
    type=ExistingPath,
    help="Boxes of each image: a folder of VOC XML or of YOLO txt, or a COCO file.",
)
@option(
    "--box",
    "given_boxes",
    type=PromptBox(),
    multiple=True,
    metavar="X0,Y0,X1,Y1[,CLASS]",
    help="Corners of a box in pixels, in every image; once for each object.",
)
@option(
    "--point",
    "given_points",
    type=PromptPoint(),
    multiple=True,
    metavar="X,Y[,0|1]",
    help="A pixel on the object (1) or beside it (0); all of them mean one object.",
)
@classes_option("as the boxes name them")
@unscored_output_options
@option(
    "--masks-format",
    "mask_formats",
    type=NameList(MASK_FORMATS),
    default=(),
    help=f"Also write the mask of each prompt: one or more of {', '.join(MASK_FORMATS)}.",
)
@session_options
@run_options
@output_options
def segment(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    boxes: Path | None,
    given_boxes: tuple[BoxPrompt, ...],
    given_points: tuple[PointPrompt, ...],
    classes: tuple[str, ...] | None,
    outputs: LabelOutputs,
    mask_formats: tuple[str, ...],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Turn boxes and points into masks and labels.

    Give --boxes, or --box and --point for all images. Masks of boxes stay inside their box; where
    masks overlap, the smaller one is on top. Writes voc/<id>.png, summary/<id>.json, classes.txt
    and one folder for each further format; masks go to masks/.
    """
    prompts = _prompts(boxes, given_boxes, given_points, classes)
    found = find_images(images)
    found.tell(quiet=quiet)
    loaded = open_bundle(bundle)
    # Choose what is written, and open the graphs
    side = picture_side(len(found.files))
    labels = outputs.writer(out, prompts.classes, report_title="Labels of boxes", picture_side=side)
    masks = MaskWriter(out, mask_formats, folder=_MASKS)
    work = Work(Segmenter(loaded, session=session), prompts, labels, masks, found.files)
    # Segment the images, then write what spans all of them
    with open_output(
        out,
        "segment",
        run,
        inputs=[*images, boxes],
        bundle=loaded,
        settings=[session],
        classes=list(prompts.classes),
        prompts=prompts.settings(),
    ) as folder:
        outcome = run_batch(work.tasks(), work, folder, run, quiet=quiet)
        labels.finish(folder, found.files, outcome)
        masks.finish(folder, found.files, outcome)
    _warn_of(work.empty)
    outcome.finish(
        quiet=quiet,
        json_file=json_file,
        runs_on=work.segmenter.runs_on,
        left_out=found.counts(),
        prompts_without_mask=work.empty,
    )


def _prompts(
    boxes: Path | None,
    given_boxes: tuple[BoxPrompt, ...],
    given_points: tuple[PointPrompt, ...],
    classes: tuple[str, ...] | None,
) -> Prompts:
    """Return the prompts of files, or of the command line. Raises SettingsError for both."""
    if (boxes is None) == (not given_boxes and not given_points):
        raise SettingsError("give either --boxes, or --box and --point")
    if boxes is not None:
        return FilePrompts(open_boxes(boxes, classes))
    return GivenPrompts.of(given_boxes, given_points, classes)


def _warn_of(empty: Mapping[str, int]) -> None:
    """Say how many prompts have no mask, by image id, and in which images."""
    if empty:
        some = ", ".join([*empty][:_SHOWN]) + (", ..." if len(empty) > _SHOWN else "")
        warn(f"prompts without a mask: {sum(empty.values())}, in {some}")


class Prompts(Protocol):
    """Where the prompts of images come from."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground names (C,); class i has label value i + 1."""

    def settings(self) -> Any:
        """Return the prompts of all images as a JSON value, None where each has its own."""

    def given(self, name: str) -> Any:
        """Return the prompts of an image id as a JSON value, None where all have the same."""

    def segment(
        self, segmenter: Segmenter, name: str, image: RgbImage, advance: Advance
    ) -> SegmentResult:
        """Find the masks of an image. Raises InputError or InferenceError."""


@dataclass(frozen=True)
class FilePrompts:
    """Boxes from files, others in each image."""

    boxes: BoxFormat

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the files name, or those that were given."""
        return self.boxes.classes

    def settings(self) -> Any:
        """Return nothing."""
        return None

    def given(self, name: str) -> Any:
        """Return the boxes of an image as its file has them."""
        try:
            return [list(box) for box in self.boxes.listed(name)]
        except LabelError:  # raised again, and kept, when the image is worked on
            return None

    def segment(
        self, segmenter: Segmenter, name: str, image: RgbImage, advance: Advance
    ) -> SegmentResult:
        """Read the boxes of an image and find their masks. Raises LabelError or InferenceError."""
        boxes, values = self.boxes.read(name, (image.shape[0], image.shape[1]))
        return segmenter.boxes(
            image, boxes, values, progress=lambda done, total: advance(done / total)
        )


@dataclass(frozen=True)
class GivenPrompts:
    """Boxes, or points and at most one box, that are the same in all images."""

    boxes: tuple[BoxPrompt, ...]
    points: tuple[PointPrompt, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        boxes: tuple[BoxPrompt, ...],
        points: tuple[PointPrompt, ...],
        classes: tuple[str, ...] | None,
    ) -> GivenPrompts:
        """Check the prompts and name their classes. Raises SettingsError."""
        if points and len(boxes) > 1:
            raise SettingsError("--point with several --box: whose points they are is not known")
        if points and not boxes and not any(point.is_object for point in points):
            raise SettingsError("all of --point lie beside the object, expected one on it")
        named = tuple(dict.fromkeys(box.name for box in boxes if box.name))
        names = classes or named or (_OBJECT,)
        for name in named:
            if name not in names:
                raise SettingsError(f"--box: {unknown_class(name, names)}")
        return cls(boxes, points, names)

    def settings(self) -> Any:
        """Return the prompts."""
        return [[list(box) for box in self.boxes], [list(point) for point in self.points]]

    def given(self, name: str) -> Any:
        """Return nothing."""
        return None

    def segment(
        self, segmenter: Segmenter, name: str, image: RgbImage, advance: Advance
    ) -> SegmentResult:
        """Find the masks of an image. Raises LabelError or InferenceError."""
        for box in self.boxes:
            box.check((image.shape[0], image.shape[1]))
        for point in self.points:
            point.check((image.shape[0], image.shape[1]))
        values = [self.classes.index(box.name or self.classes[0]) + 1 for box in self.boxes]
        corners = [box[:4] for box in self.boxes]
        if not self.points:
            return segmenter.boxes(image, corners, values)
        return segmenter.points(
            image,
            [point[:2] for point in self.points],
            [int(point.is_object) for point in self.points],
            corners[0] if corners else None,
            values[0] if values else 1,
        )


class Work:
    """Segments images one by one."""

    def __init__(
        self,
        segmenter: Segmenter,
        prompts: Prompts,
        labels: LabelWriter,
        masks: MaskWriter,
        images: dict[str, Path],
    ):
        self.segmenter, self.prompts, self.images = segmenter, prompts, images
        self.labels, self.masks = labels, masks
        self.empty: dict[str, int] = {}
        """Prompts that gave no mask, by image id."""
        self._ahead = ReadAhead(list(images.values()))

    def tasks(self) -> list[Task]:
        """Return what is to be done for each image."""
        kinds = (*self.labels.kinds, *self.masks.kinds)
        derived = (*self.labels.derived, *self.masks.derived)
        return [
            Task(IMAGE + name, str(path), kinds, derived, {"image": path}, self.prompts.given(name))
            for name, path in self.images.items()
        ]

    def __call__(self, task: Task, missing: Sequence[str], advance: Advance) -> Write:
        """Segment one image, and return what writes its files."""
        name, path = task.key.removeprefix(IMAGE), task.files["image"]
        if len(missing) < len(task.kinds):
            return lambda staging: self._derive(staging, name, path, missing)
        image = self._ahead.read(path)
        result = self.prompts.segment(self.segmenter, name, image, advance)
        empty = int((result.masks.areas == 0).sum())
        self.empty |= {name: empty} if empty else {}

        def write(staging: Path) -> None:
            self.labels.write(staging, name, path, image, result)
            self.masks.write(staging, name, image, result.masks, missing)

        return write

    def _derive(self, staging: Path, name: str, path: Path, missing: Sequence[str]) -> None:
        """Write what an earlier run did not, from what it did."""
        self.labels.derive(staging, name, path, missing)
        self.masks.write(staging, name, None, self.masks.read(name), missing)
