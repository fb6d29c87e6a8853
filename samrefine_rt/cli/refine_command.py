"""`samrefine refine`: pseudo labels and images (or their masks) to refined labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import click

from samrefine_rt.cli.batch import Advance, Work, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.options import (
    ExistingFolder,
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
from samrefine_rt.cli.outputs import BASE_FORMAT
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.backends import RunsOn, SessionOptions
from samrefine_runtime.errors import LabelError, MaskFileError, SettingsError
from samrefine_runtime.formats import (
    check_stored_masks,
    find_stored_masks,
    read_stored_masks,
)
from samrefine_runtime.image import ReadAhead
from samrefine_runtime.labels import VOC_CLASSES, LabelMap, read_label, write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.names import image_id
from samrefine_runtime.pipeline import PROMPTS
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.refine import refine as refine_label
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Settings


@click.command(cls=GroupedCommand)
@option(
    "--pseudo-labels",
    required=True,
    type=ExistingFolder,
    help="The pseudo labels: PNGs, <id>.png.",
)
@option("--images", type=ExistingFolder, help="Images with the same ids; needs --bundle.")
@bundle_option(required=False)
@option(
    "--masks",
    "masks_path",
    type=ExistingPath,
    help="Masks instead of images: output of `masks`, one folder of PNG masks per id, or a COCO "
    "file.",
)
@option("--out", required=True, type=Folder, help="Output folder for refined label PNGs.")
@settings_options(
    RefineSettings, "refinement", REFINEMENT, defaults={"num_classes": len(VOC_CLASSES)}
)
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
    refinement: Given[RefineSettings],
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Refine pseudo labels with SAM's masks (SEPL).

    Give either --images with --bundle, or --masks.
    """
    labels = _label_files(pseudo_labels)
    if masks_path is not None and images is None and bundle is None:
        source: MaskSource = StoredMasks(masks_path)
        loaded = None
    elif masks_path is None and images is not None and bundle is not None:
        loaded = open_bundle(bundle)
        mask_generator = MaskGenerator(loaded, session=session, **generator.values)
        source = GeneratedMasks(images, mask_generator, session)
    else:
        raise SettingsError("give either --images with --bundle, or --masks alone")
    settings = RefineSettings.of(loaded, **refinement.values)
    inputs, used = [pseudo_labels, images, masks_path], [settings, *source.settings]
    with open_output(out, "refine", run, inputs=inputs, bundle=loaded, settings=used) as folder:
        work = _work(source, settings)
        outcome = run_batch(_tasks(labels, source), work, folder, run, quiet=quiet)
    outcome.finish(quiet=quiet, json_file=json_file, runs_on=source.runs_on)


def _tasks(labels: Mapping[str, Path], source: MaskSource) -> list[Task]:
    """Return what is to be done: one task per pseudo label, given by id."""
    return [
        Task(
            IMAGE + name,
            str(path),
            (BASE_FORMAT,),
            files={"pseudo label": path, **source.files(name)},
        )
        for name, path in labels.items()
    ]


def _work(source: MaskSource, settings: RefineSettings) -> Work:
    """Return the function that refines one pseudo label, and returns what writes its file."""

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        name, path = task.key.removeprefix(IMAGE), task.files["pseudo label"]
        label = read_label(path)
        refined = refine_label(label, source.find(name, label, advance), settings)
        return lambda staging: write_label(staging / f"{name}.png", refined)

    return work


def _label_files(folder: Path) -> dict[str, Path]:
    """List the label files of a folder by id, sorted. Raises SettingsError if there is none."""
    files = {image_id(path): path for path in sorted(folder.glob("*.png")) if path.name[0] != "."}
    if not files:
        raise SettingsError(f"no .png labels in {folder}")
    return files


class MaskSource(Protocol):
    """Where the masks of images come from."""

    settings: Sequence[Settings]
    """What the masks depend on beside the image and the bundle."""
    runs_on: Mapping[str, RunsOn] | None
    """What runs the graphs, by graph; None where no graph is run."""

    def files(self, name: str) -> dict[str, Path]:
        """Return the files of an image id from which its masks are made, by role."""

    def find(self, name: str, label: LabelMap, advance: Advance) -> Masks:
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

    def find(self, name: str, label: LabelMap, advance: Advance) -> Masks:
        """Read the masks. Raises MaskFileError."""
        return read_stored_masks(self.folder, name, image_shape=label.shape)


class GeneratedMasks:
    """Masks that SAM finds in the images of a folder."""

    def __init__(self, folder: Path, mask_generator: MaskGenerator, session: SessionOptions):
        self.folder, self.mask_generator = folder, mask_generator
        self.settings: Sequence[Settings] = (mask_generator.settings, session)
        self.runs_on: Mapping[str, RunsOn] | None = mask_generator.runs_on
        self.images = image_files([folder])
        self._ahead = ReadAhead(list(self.images.values()))

    def files(self, name: str) -> dict[str, Path]:
        """Return the image; nothing where there is none."""
        return {"image": self.images[name]} if name in self.images else {}

    def find(self, name: str, label: LabelMap, advance: Advance) -> Masks:
        """Find the masks of an image. Raises LabelError or ImageError."""
        if name not in self.images:
            raise LabelError(f"no image of this id in {self.folder}")
        image = self._ahead.read(self.images[name])
        if image.shape[:2] != label.shape:
            raise LabelError(
                f"label is {label.shape[1]} x {label.shape[0]} pixels, its image "
                f"{self.images[name]} is {image.shape[1]} x {image.shape[0]}"
            )
        return self.mask_generator.generate(
            image, pseudo_label=label, progress=lambda done, total: advance(done / total)
        )
