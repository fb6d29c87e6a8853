"""`samrefine label`: photos to refined labels, the whole way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from samrefine_rt.cli.batch import Report, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    bundle_option,
    cam_options,
    generator_options,
    output_options,
    prompts_option,
    resume_option,
    session_options,
)
from samrefine_rt.cli.outputs import FORMATS, LabelWriter
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.image_labels import read_image_labels
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.labels import read_label
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import METHODS, Label, RefineSettings
from samrefine_runtime.report import check_ground_truth, picture_side
from samrefine_runtime.sam.prompts import PROMPT_MODES

ImageLabelSource = Callable[[str], NDArray[np.bool_] | None]
"""the classes (C,) in the photo of an id, None to predict them; LabelError if it is not listed"""


@click.command()
@click.argument("images", nargs=-1, required=True, type=ExistingPath, metavar="IMAGE|DIR...")
@bundle_option()
@click.option("--out", required=True, type=Folder, help="Output folder.")
@click.option(
    "--image-labels",
    type=ExistingPath,
    help="Classes of each photo: CSV, JSON, or a folder of VOC XML.  [default: predicted]",
)
@click.option(
    "--format",
    "formats",
    default="voc",
    show_default=True,
    help=f"One or more of {', '.join(FORMATS)}, separated by commas.",
)
@click.option("--overlay", is_flag=True, help="Also draw overlays/<photo>.jpg.")
@click.option("--report", is_flag=True, help="Also write report.html, a page of all steps.")
@click.option(
    "--ground-truth",
    type=ExistingFolder,
    help="Label PNGs, <photo>.png, to measure by in the report.",
)
@click.option("--method", type=click.Choice(METHODS), default="max_iou_imp2", show_default=True)
@cam_options
@prompts_option(*PROMPT_MODES)
@generator_options
@session_options
@resume_option
@output_options
def label(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    image_labels: Path | None,
    formats: str,
    overlay: bool,
    report: bool,
    ground_truth: Path | None,
    method: Any,
    cam: dict[str, Any],
    prompts: Any,
    generator: dict[str, Any],
    session: dict[str, Any],
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Label photos: CAM names, SAM outlines, SEPL joins the two.

    Writes voc/<photo>.png and summary/<photo>.json, and a folder for each further format.
    """
    if ground_truth is not None and not report:
        raise SettingsError("--ground-truth is for the report: give --report as well")
    chosen = _formats(formats)
    photos = image_files(images)
    loaded = open_bundle(bundle)
    labeler = Labeler(
        loaded, generator=generator, cam=CamSettings.of(loaded, **cam),
        refinement=RefineSettings(method), prompts=prompts, **session,
    )  # fmt: skip
    find_present = _image_labels(image_labels, labeler.classes)
    side = picture_side(len(photos))
    writer = LabelWriter(
        out, labeler.classes, chosen, overlay=overlay, report=report, picture_side=side
    )
    skips = writer.has if resume else lambda image_id: False
    find_truth = partial(_ground_truth, ground_truth)
    work = _work(photos, labeler, find_present, find_truth, writer, skips)
    outcome = run_batch(list(photos), work, name=lambda i: str(photos[i]), quiet=quiet)
    writer.finish({image_id: photos[image_id] for image_id in photos if writer.has(image_id)})
    outcome.finish(quiet=quiet, as_json=as_json)


def _work(
    photos: Mapping[str, Path],
    labeler: Labeler,
    find_present: ImageLabelSource,
    find_truth: Callable[[str, RgbImage], Label | None],
    writer: LabelWriter,
    skips: Callable[[str], bool],
) -> Callable[[str, Report], Write | None]:
    """What is done for one photo: read, label, and hand over to be written."""
    ahead = ReadAhead(list(photos.values()))

    def work(image_id: str, tell: Report) -> Write | None:
        if skips(image_id):
            return None
        image = ahead.read(photos[image_id])
        present = find_present(image_id)
        truth = find_truth(image_id, image)
        result = labeler.label(image, present, progress=lambda done, total: tell(done / total))
        return lambda: writer.write(photos[image_id], image, result, truth)

    return work


def _formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [part for part in chosen if part not in FORMATS]
    if unknown or not chosen:
        raise SettingsError(f"--format is {text!r}, expected some of {', '.join(FORMATS)}")
    return chosen


def _image_labels(path: Path | None, classes: Sequence[str]) -> ImageLabelSource:
    if path is None:
        return lambda image_id: None
    known = read_image_labels(path, classes)

    def find(image_id: str) -> NDArray[np.bool_]:
        if image_id not in known:
            raise LabelError(f"{image_id} is not in the image-level labels of {path}")
        return known[image_id]

    return find


def _ground_truth(folder: Path | None, image_id: str, image: RgbImage) -> Label | None:
    """Ground truth of a photo where there is any. Raises LabelError if it is of another size."""
    path = None if folder is None else folder / f"{image_id}.png"
    if path is None or not path.is_file():
        return None
    label = read_label(path)
    check_ground_truth(label, image)
    return label
