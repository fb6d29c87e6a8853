"""`samrefine label`: images to refined labels, the whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from samrefine_rt.cli.batch import Advance, Work, Write, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import CAM, MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.images import find_images, images_argument
from samrefine_rt.cli.label_options import LabelOutputs, label_output_options
from samrefine_rt.cli.options import (
    ExistingPath,
    Folder,
    Given,
    RunOptions,
    bundle_option,
    output_options,
    run_options,
    session_options,
    settings_options,
)
from samrefine_rt.cli.outputs import GroundTruth, LabelWriter
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.class_names import BACKGROUND
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.image_labels import labels_of_folders, read_image_labels
from samrefine_runtime.image import ReadAhead
from samrefine_runtime.pipeline import PROMPTS, Labeler
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.report import picture_side
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.sam.settings import GeneratorSettings

ImageLabelSource = Callable[[str], NDArray[np.bool_] | None]
"""Returns the classes (C,) bool in the image of an id, or None to predict them.

Raises LabelError if the image is not listed.
"""


FOLDERS = Path("folders")
"""The value of --image-labels by which the folder of an image names its class."""


_SHOWN = 8
"""Classes, and folders, that a message names."""


class ImageLabelsPath(click.ParamType):  # type: ignore[type-arg]
    """A file or folder of image-level labels, or FOLDERS where nothing is called so."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or FOLDERS."""
        path = Path(value)
        if path == FOLDERS and not path.exists():
            return path
        return Path(ExistingPath.convert(path, param, ctx))


@click.command(cls=GroupedCommand)
@images_argument()
@bundle_option()
@option("--out", required=True, type=Folder, help="Output folder.")
@option(
    "--image-labels",
    type=ImageLabelsPath(),
    metavar="PATH",
    help="Classes of each image: CSV, JSON, or a folder of VOC XML; or the word folders, where the "
    "folder of each image is called as its class.  [default: predicted]",
)
@label_output_options
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
    outputs: LabelOutputs,
    refinement: Given[RefineSettings],
    cam: Given[CamSettings],
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Label images: pseudo labels from CAM, masks from SAM, joined by SEPL.

    Writes voc/<id>.png, summary/<id>.json, classes.txt and one folder for each further format.
    """
    found = find_images(images)
    found.tell(quiet=quiet)
    files = found.files
    loaded = open_bundle(bundle)
    labeler = Labeler(
        loaded,
        generator=generator.values,
        cam=CamSettings.of(loaded, **cam.values),
        refinement=RefineSettings.of(loaded, **refinement.values),
        session=session,
    )
    # Prepare the outputs and what is known of each image
    find_present = _image_labels(image_labels, labeler.classes, files)
    side = picture_side(len(files))
    writer, truth = outputs.writer(out, labeler.classes, picture_side=side), outputs.truth
    tasks = [
        writer.task(
            name,
            str(path),
            {"image": path, **truth.files(name)},
            _names(find_present, name, labeler.classes),
        )
        for name, path in files.items()
    ]
    # Label the images, then write what spans all of them
    known = None if image_labels == FOLDERS else image_labels
    inputs = [*images, known, outputs.ground_truth]
    settings = [*labeler.settings, session]
    with open_output(out, "label", run, inputs=inputs, bundle=loaded, settings=settings) as folder:
        work = _work(files, labeler, find_present, writer, truth)
        outcome = run_batch(tasks, work, folder, run, quiet=quiet)
        writer.finish(folder, files, outcome)
    outcome.finish(
        quiet=quiet, json_file=json_file, runs_on=labeler.runs_on, left_out=found.counts()
    )


def _work(
    files: Mapping[str, Path],
    labeler: Labeler,
    find_present: ImageLabelSource,
    writer: LabelWriter,
    truth: GroundTruth,
) -> Work:
    """Return the function that reads and labels one image, and returns what writes its files."""
    ahead = ReadAhead(list(files.values()))

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        path, name = task.files["image"], task.key.removeprefix(IMAGE)
        if len(missing) < len(task.kinds):
            return lambda staging: writer.derive(staging, name, path, missing)
        image = ahead.read(path)
        present = find_present(name)
        known = truth.read(task, image)
        result = labeler.label(image, present, progress=lambda done, total: advance(done / total))
        return lambda staging: writer.write(staging, name, path, image, result, known)

    return work


def _image_labels(
    path: Path | None, classes: Sequence[str], names: Iterable[str]
) -> ImageLabelSource:
    """Read image-level labels of image ids; without a path, the classes are predicted.

    Raises LabelError, or SettingsError where no folder names a class.
    """
    if path is None:
        return lambda image_id: None
    if path == FOLDERS and not path.exists():
        _check_folders(names, classes)
        return lambda image_id: labels_of_folders(image_id, classes)
    known = read_image_labels(path, classes)

    def find(image_id: str) -> NDArray[np.bool_]:
        if image_id not in known:
            raise LabelError(f"{image_id} is not in the image-level labels of {path}")
        return known[image_id]

    return find


def _check_folders(names: Iterable[str], classes: Sequence[str]) -> None:
    """Raise SettingsError where no image id has a folder that is called as a class."""
    folders = {folder for name in names for folder in name.split("/")[:-1]}
    if not folders & {*classes, BACKGROUND}:
        found = ", ".join(sorted(folders)[:_SHOWN]) or "none"
        known = ", ".join(classes[:_SHOWN]) + (", ..." if classes[_SHOWN:] else "")
        raise SettingsError(
            f"--image-labels folders: no folder is called as a class of the bundle ({known}); the "
            f"images lie in {found}"
        )


def _names(find_present: ImageLabelSource, name: str, classes: Sequence[str]) -> list[str] | None:
    """Return the classes in an image for the journal; None where they are predicted or missing."""
    try:
        present = find_present(name)
    except LabelError:  # raised again, and kept, when the image is worked on
        return None
    if present is None:
        return None
    return [each for each, is_here in zip(classes, present, strict=True) if is_here]
