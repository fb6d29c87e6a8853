"""`samrefine refine`: pseudo labels and images (or their masks) to refined labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import click

from samrefine_rt.cli.batch import Advance, Write, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.classes import classes_beside, classes_option, names_of
from samrefine_rt.cli.grouped import MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.images import find_images
from samrefine_rt.cli.label_options import LabelOutputs, label_output_options
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    Given,
    LabelFolder,
    RunOptions,
    bundle_option,
    output_options,
    run_options,
    session_options,
    settings_options,
)
from samrefine_rt.cli.outputs import GroundTruth, LabelWriter
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.backends import RunsOn, SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.class_names import numbered
from samrefine_runtime.errors import LabelError, MaskFileError, SettingsError, printable
from samrefine_runtime.formats import (
    check_stored_masks,
    find_stored_masks,
    read_stored_masks,
)
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.labels import LabelMap, read_label
from samrefine_runtime.listing import files_in
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.names import ByImage, image_id
from samrefine_runtime.pipeline import PROMPTS
from samrefine_runtime.refine import RefineSettings, refine_and_choose
from samrefine_runtime.report import picture_side
from samrefine_runtime.results import LabelResult
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Settings

_PSEUDO_LABEL = "pseudo label"
"""Role of the pseudo label among the files of a task."""

_SHOWN_CLASSES = 3
"""Classes of the bundle that are named where they are taken for those of the labels."""

ReadImage = Callable[[], RgbImage]
"""Reads the image of a pseudo label, when something looks at it. Raises LabelError, ImageError."""


@click.command(cls=GroupedCommand)
@option(
    "--pseudo-labels",
    required=True,
    type=LabelFolder(),
    help="The pseudo labels: PNGs, <id>.png, or what label or refine wrote.",
)
@option(
    "--images", type=ExistingFolder, help="Images with the same ids; with --bundle, or to draw."
)
@bundle_option(required=False)
@option(
    "--masks",
    "masks_path",
    type=ExistingPath,
    help="Masks instead of a bundle: output of `masks`, one folder of PNG masks per id, or a COCO "
    "file.",
)
@option("--out", required=True, type=Folder, help="Output folder.")
@classes_option("classes.txt beside the labels, then the bundle's")
@label_output_options
@settings_options(RefineSettings, "refinement", REFINEMENT)
@settings_options(
    GeneratorSettings, "generator", MASKS, defaults={"prompts": PROMPTS}, shows_defaults=False
)
@session_options
@run_options
@output_options
def refine(
    pseudo_labels: Path,
    images: Path | None,
    bundle: str | None,
    masks_path: Path | None,
    out: Path,
    classes: tuple[str, ...] | None,
    outputs: LabelOutputs,
    refinement: Given[RefineSettings],
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Refine pseudo labels with SAM's masks (SEPL).

    Give either --images with --bundle, or --masks. Writes voc/<id>.png, summary/<id>.json,
    classes.txt and one folder for each further format.
    """
    labels = _label_files(pseudo_labels)
    source, loaded = _mask_source(images, bundle, masks_path, generator, session)
    # Choose the classes, and what is written
    names = _names(labels, pseudo_labels, classes, refinement, loaded, quiet=quiet)
    settings = RefineSettings.of(loaded, **{**refinement.values, "num_classes": len(names) + 1})
    side = picture_side(len(labels))
    writer = outputs.writer(out, names, report_title="Refined labels", picture_side=side)
    if images is None and writer.images_for:
        raise SettingsError(f"{writer.images_for} needs --images")
    refiner = Refiner(settings, source, Images(images), writer, outputs.truth)
    # Refine the labels, then write what spans all of them
    inputs = [pseudo_labels, images, masks_path, outputs.ground_truth]
    used = [settings, *source.settings]
    named = None if names == numbered(len(names) + 1) else list(names)
    with open_output(
        out, "refine", run, inputs=inputs, bundle=loaded, settings=used, classes=named
    ) as folder:
        tasks = [refiner.task(name, path) for name, path in labels.items()]
        outcome = run_batch(tasks, refiner.work, folder, run, quiet=quiet)
        shown = {name: refiner.images.paths.get(name, path) for name, path in labels.items()}
        writer.finish(folder, shown, outcome)
    outcome.finish(quiet=quiet, json_file=json_file, runs_on=source.runs_on)


def _label_files(folder: Path) -> dict[str, Path]:
    """List the label files of a folder by id, sorted. Raises SettingsError if there is none."""
    files = {image_id(path, folder): path for path in files_in(folder, {".png"})}
    if not files:
        raise SettingsError(f"no .png labels in {folder}")
    return files


def _names(
    labels: Iterable[str],
    folder: Path,
    classes: tuple[str, ...] | None,
    refinement: Given[RefineSettings],
    bundle: Bundle | None,
    *,
    quiet: bool,
) -> tuple[str, ...]:
    """Return the foreground names of the classes. Raises SettingsError."""
    known = None if bundle is None or bundle.cam is None else bundle.cam.classes
    beside = classes_beside(folder) if classes is None else None
    names = names_of(
        labels,
        given=classes,
        num_classes=refinement.values.get("num_classes"),
        beside=beside,
        bundle=known,
    )
    if names == known and classes is None and beside is None and not quiet:
        shown = ", ".join(names[:_SHOWN_CLASSES]) + (", ..." if names[_SHOWN_CLASSES:] else "")
        text = f"classes: {len(names)}, as the bundle's ({shown}); --classes says otherwise"
        click.echo(printable(text), err=True)
    return names


def _mask_source(
    images: Path | None,
    bundle: str | None,
    masks_path: Path | None,
    generator: Given[GeneratorSettings],
    session: SessionOptions,
) -> tuple[MaskSource, Bundle | None]:
    """Return where masks come from, and the bundle that finds them, if one does.

    Raises SettingsError unless one of both ways is given.
    """
    if masks_path is not None and bundle is None:
        return StoredMasks(masks_path), None
    if masks_path is None and bundle is not None and images is not None:
        loaded = open_bundle(bundle)
        mask_generator = MaskGenerator(loaded, session=session, **generator.values)
        return GeneratedMasks(mask_generator, session), loaded
    raise SettingsError("give either --images with --bundle, or --masks")


class MaskSource(Protocol):
    """Where the masks of images come from."""

    settings: Sequence[Settings]
    """What the masks depend on beside the image and the bundle."""
    runs_on: Mapping[str, RunsOn] | None
    """What runs the graphs, by graph; None where no graph is run."""

    def files(self, name: str) -> dict[str, Path]:
        """Return the files of an image id, beside the image, that hold its masks, by role."""

    def find(self, name: str, label: LabelMap, read_image: ReadImage, advance: Advance) -> Masks:
        """Return the masks of an image id, given its pseudo label.

        Raises:
            InputError: they cannot be found, or are of another shape.
        """


class StoredMasks:
    """Masks in files."""

    settings: Sequence[Settings] = ()
    runs_on: Mapping[str, RunsOn] | None = None

    def __init__(self, folder: Path):
        check_stored_masks(folder)
        self.folder = folder

    def files(self, name: str) -> dict[str, Path]:
        """Return the file or folder that holds the masks; nothing where there are none."""
        try:
            place = find_stored_masks(self.folder, name)
        except MaskFileError:  # raised again, and kept, when the image is worked on
            place = None
        return {} if place is None else {"masks": place}

    def find(self, name: str, label: LabelMap, read_image: ReadImage, advance: Advance) -> Masks:
        """Read the masks. Raises MaskFileError."""
        return read_stored_masks(self.folder, name, image_shape=label.shape)


class GeneratedMasks:
    """Masks that SAM finds in the images."""

    def __init__(self, mask_generator: MaskGenerator, session: SessionOptions):
        self.mask_generator = mask_generator
        self.settings: Sequence[Settings] = (mask_generator.settings, session)
        self.runs_on: Mapping[str, RunsOn] | None = mask_generator.runs_on

    def files(self, name: str) -> dict[str, Path]:
        """Return nothing: the masks come from the image."""
        return {}

    def find(self, name: str, label: LabelMap, read_image: ReadImage, advance: Advance) -> Masks:
        """Find the masks in the image. Raises InputError or InferenceError."""
        return self.mask_generator.generate(
            read_image(), pseudo_label=label, progress=lambda done, total: advance(done / total)
        )


class Images:
    """The images of the labels, in a folder; without one there are none."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.paths = ByImage({} if folder is None else find_images([folder]).files)
        self._ahead = ReadAhead(list(self.paths.values()))

    def path(self, name: str) -> Path:
        """Return the file of an image id. Raises LabelError."""
        if name not in self.paths:
            raise LabelError(f"no image of this id in {self.folder}")
        return self.paths[name]

    def read(self, name: str, label: LabelMap) -> RgbImage:
        """Read the image of a label (H, W). Raises LabelError or ImageError."""
        image = self._ahead.read(self.path(name))
        if image.shape[:2] != label.shape:
            raise LabelError(
                f"label is {label.shape[1]} x {label.shape[0]} pixels, its image "
                f"{self.paths[name]} is {image.shape[1]} x {image.shape[0]}"
            )
        return image


class Refiner:
    """Refines pseudo labels one by one."""

    def __init__(
        self,
        settings: RefineSettings,
        source: MaskSource,
        images: Images,
        writer: LabelWriter,
        truth: GroundTruth,
    ):
        self.settings, self.source, self.images = settings, source, images
        self.writer, self.truth = writer, truth

    def task(self, name: str, path: Path) -> Task:
        """Return what is to be done for the pseudo label of an image id."""
        image = self.images.paths.get(name)
        files = {
            _PSEUDO_LABEL: path,
            **({} if image is None else {"image": image}),
            **self.source.files(name),
            **self.truth.files(name),
        }
        return self.writer.task(name, str(image or path), files)

    def work(self, task: Task, missing: Sequence[str], advance: Advance) -> Write:
        """Refine one pseudo label, and return what writes its files."""
        name, path = task.key.removeprefix(IMAGE), task.files[_PSEUDO_LABEL]
        if self.images.folder is not None:
            path = self.images.path(name)
        if len(missing) < len(task.kinds):
            return lambda staging: self.writer.derive(staging, name, path, missing)
        label = read_label(task.files[_PSEUDO_LABEL])
        # Read once, and only where something looks at it
        read_image = cache(lambda: self.images.read(name, label))
        result = self._refine(name, label, read_image, advance)
        image = read_image() if self.writer.draws else None
        truth = self.truth.read(task, image)
        return lambda staging: self.writer.write(staging, name, path, image, result, truth)

    def _refine(
        self, name: str, label: LabelMap, read_image: ReadImage, advance: Advance
    ) -> LabelResult:
        """Find the masks of a pseudo label and refine it."""
        start = time.perf_counter()
        masks = self.source.find(name, label, read_image, advance)
        found = time.perf_counter()
        refined, chosen = refine_and_choose(label, masks, self.settings)
        seconds = {"masks": found - start, "refine": time.perf_counter() - found}
        return LabelResult(refined, label, None, masks, seconds, chosen)
