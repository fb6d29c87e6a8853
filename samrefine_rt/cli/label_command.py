"""`samrefine label`: images to refined labels, the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from samrefine_rt.cli.batch import Advance, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import CAM, MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    Given,
    bundle_option,
    format_option,
    output_options,
    resume_option,
    session_options,
    settings_options,
)
from samrefine_rt.cli.outputs import BASE_FORMAT, LabelWriter
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
from samrefine_runtime.sam.settings import GeneratorSettings

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
@resume_option
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
    resume: bool,
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
    # Label the images
    is_done = writer.has if resume else lambda image_id: False
    find_truth = partial(_ground_truth, ground_truth)
    work = _work(files, labeler, find_present, find_truth, writer, is_done)
    outcome = run_batch(list(files), work, name=lambda i: str(files[i]), quiet=quiet)
    # Write what spans all images, those of earlier runs included
    writer.finish({image_id: files[image_id] for image_id in files if writer.has(image_id)})
    outcome.finish(quiet=quiet, json_file=json_file)


def _work(
    files: Mapping[str, Path],
    labeler: Labeler,
    find_present: ImageLabelSource,
    find_truth: Callable[[str, RgbImage], LabelMap | None],
    writer: LabelWriter,
    is_done: Callable[[str], bool],
) -> Callable[[str, Advance], Write | None]:
    """Return the function that reads and labels one image, and returns what writes its files."""
    ahead = ReadAhead(list(files.values()))

    def work(image_id: str, advance: Advance) -> Write | None:
        if is_done(image_id):
            return None
        image = ahead.read(files[image_id])
        present = find_present(image_id)
        truth = find_truth(image_id, image)
        result = labeler.label(image, present, progress=lambda done, total: advance(done / total))
        return lambda: writer.write(files[image_id], image, result, truth)

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


def _ground_truth(folder: Path | None, image_id: str, image: RgbImage) -> LabelMap | None:
    """Read the ground truth of an image, if any. Raises LabelError if it is of another shape."""
    path = None if folder is None else folder / f"{image_id}.png"
    if path is None or not path.is_file():
        return None
    truth = read_label(path)
    check_ground_truth(truth, image)
    return truth
