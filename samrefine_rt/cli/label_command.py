"""`samrefine label`: images to refined labels, the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from samrefine_rt.cli.batch import Advance, Work, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import CAM, MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    Given,
    RunOptions,
    bundle_option,
    format_option,
    output_options,
    run_options,
    session_options,
    settings_options,
)
from samrefine_rt.cli.outputs import BASE_FORMAT, LabelWriter
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.labels import LabelMap, read_label
from samrefine_runtime.pipeline import PROMPTS, Labeler
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.report import check_ground_truth, picture_side
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.sam.settings import GeneratorSettings

GROUND_TRUTH = "ground truth"
"""Role of the ground truth among the files of an image."""

ImageLabelSource = Callable[[str], NDArray[np.bool_] | None]
"""Returns the classes (C,) bool in the image of an id, or None to predict them.

Raises LabelError if the image is not listed.
"""


@click.command(cls=GroupedCommand)
@click.argument("images", nargs=-1, required=True, type=ExistingPath, metavar="IMAGE|DIR...")
@bundle_option()
@option("--out", required=True, type=Folder, help="Output folder.")
@option(
    "--image-labels",
    type=ExistingPath,
    help="Classes of each image: CSV, JSON, or a folder of VOC XML.  [default: predicted]",
)
@format_option(LABEL_FORMATS, BASE_FORMAT)
@option("--overlay", is_flag=True, help="Also draw overlays/<image>.jpg.")
@option("--report", is_flag=True, help="Also write report.html, which shows each step.")
@option(
    "--ground-truth",
    type=ExistingFolder,
    help="Label PNGs, <image>.png, that the report compares with.",
)
@settings_options(RefineSettings, "refinement", REFINEMENT, without=("num_classes",))
@settings_options(CamSettings, "cam", CAM, shows_defaults=False)
@settings_options(
    GeneratorSettings, "generator", MASKS, defaults={"prompts": PROMPTS}, shows_defaults=False
)
@session_options
@run_options
@output_options
def label(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    image_labels: Path | None,
    formats: tuple[str, ...],
    overlay: bool,
    report: bool,
    ground_truth: Path | None,
    refinement: Given[RefineSettings],
    cam: Given[CamSettings],
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Label images: pseudo labels from CAM, masks from SAM, joined by SEPL.

    Writes voc/<image>.png, summary/<image>.json and one folder for each further format.
    """
    if ground_truth is not None and not report:
        raise SettingsError("--ground-truth needs --report, which shows the comparison")
    files = image_files(images)
    loaded = open_bundle(bundle)
    labeler = Labeler(
        loaded,
        generator=generator.values,
        cam=CamSettings.of(loaded, **cam.values),
        refinement=RefineSettings.of(loaded, **refinement.values),
        session=session,
    )
    # Prepare the outputs and what is known of each image
    find_present = _image_labels(image_labels, labeler.classes)
    side = picture_side(len(files))
    writer = LabelWriter(
        out, labeler.classes, formats, overlay=overlay, report=report, picture_side=side
    )
    tasks = _tasks(files, writer, find_present, ground_truth)
    # Label the images, then write what spans all of them
    inputs = [*images, image_labels, ground_truth]
    settings = [*labeler.settings, session]
    with open_output(out, "label", run, inputs=inputs, bundle=loaded, settings=settings) as folder:
        work = _work(files, labeler, find_present, writer)
        outcome = run_batch(tasks, work, folder, run, quiet=quiet)
        writer.finish(folder, files, outcome)
    outcome.finish(quiet=quiet, json_file=json_file, runs_on=labeler.runs_on)


def _tasks(
    files: Mapping[str, Path],
    writer: LabelWriter,
    find_present: ImageLabelSource,
    ground_truth: Path | None,
) -> list[Task]:
    """Return what each image's labels depend on."""
    return [
        Task(
            IMAGE + name,
            str(path),
            writer.kinds,
            writer.derived,
            {"image": path, **_truth_of(name, ground_truth)},
            given=_names(find_present, name, writer.classes[1:]),
        )
        for name, path in files.items()
    ]


def _work(
    files: Mapping[str, Path],
    labeler: Labeler,
    find_present: ImageLabelSource,
    writer: LabelWriter,
) -> Work:
    """Return the function that reads and labels one image, and returns what writes its files."""
    ahead = ReadAhead(list(files.values()))

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        path, name = task.files["image"], task.key.removeprefix(IMAGE)
        if len(missing) < len(task.kinds):
            return lambda staging: writer.derive(staging, name, path, missing)
        image = ahead.read(path)
        present = find_present(name)
        truth = _read_truth(task.files.get(GROUND_TRUTH), image)
        result = labeler.label(image, present, progress=lambda done, total: advance(done / total))
        return lambda staging: writer.write(staging, name, path, image, result, truth)

    return work


def _image_labels(path: Path | None, classes: Sequence[str]) -> ImageLabelSource:
    """Read image-level labels; without a path, the classes are predicted. Raises LabelError."""
    if path is None:
        return lambda image_id: None
    known = read_image_labels(path, classes)

    def find(image_id: str) -> NDArray[np.bool_]:
        if image_id not in known:
            raise LabelError(f"{image_id} is not in the image-level labels of {path}")
        return known[image_id]

    return find


def _names(find_present: ImageLabelSource, name: str, classes: Sequence[str]) -> list[str] | None:
    """Return the classes in an image for the journal; None where they are predicted or missing."""
    try:
        present = find_present(name)
    except LabelError:  # raised again, and kept, when the image is worked on
        return None
    if present is None:
        return None
    return [each for each, is_here in zip(classes, present, strict=True) if is_here]


def _truth_of(name: str, folder: Path | None) -> dict[str, Path]:
    """Return the ground truth file of an image, if there is one."""
    path = None if folder is None else folder / f"{name}.png"
    return {} if path is None or not path.is_file() else {GROUND_TRUTH: path}


def _read_truth(path: Path | None, image: RgbImage) -> LabelMap | None:
    """Read the ground truth of an image, if any. Raises LabelError if it is of another shape."""
    if path is None:
        return None
    truth = read_label(path)
    check_ground_truth(truth, image)
    return truth
