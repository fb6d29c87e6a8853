"""`samrefine refine`: pseudo labels and images (or their masks) to refined labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from samrefine_rt.cli.batch import Advance, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import MASKS, REFINEMENT, GroupedCommand, option
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    Given,
    bundle_option,
    output_options,
    resume_option,
    session_options,
    settings_options,
)
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats import read_stored_masks
from samrefine_runtime.image import ReadAhead
from samrefine_runtime.labels import VOC_CLASSES, LabelMap, read_label, write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.pipeline import PROMPTS
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.refine import refine as refine_label
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings

MaskSource = Callable[[str, LabelMap, Advance], Masks]
"""Returns the masks of the image of an id, given its pseudo label."""


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
    help="Masks instead of images: output of `masks`, or one folder of PNG masks per id.",
)
@option("--out", required=True, type=Folder, help="Output folder for refined label PNGs.")
@settings_options(
    RefineSettings, "refinement", REFINEMENT, defaults={"num_classes": len(VOC_CLASSES)}
)
@settings_options(
    GeneratorSettings, "generator", MASKS, defaults={"prompts": PROMPTS}, shows_defaults=False
)
@session_options
@resume_option
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
    resume: bool,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Refine pseudo labels with SAM's masks (SEPL).

    Give either --images with --bundle, or --masks.
    """
    labels = _label_files(pseudo_labels)
    if masks_path is not None and images is None and bundle is None:
        settings = RefineSettings.of(None, **refinement.values)
        find_masks = _stored_masks(masks_path)
    elif masks_path is None and images is not None and bundle is not None:
        loaded = open_bundle(bundle)
        settings = RefineSettings.of(loaded, **refinement.values)
        mask_generator = MaskGenerator(loaded, session=session, **generator.values)
        find_masks = _generated_masks(images, mask_generator)
    else:
        raise SettingsError("give either --images with --bundle, or --masks alone")

    def work(image_id: str, advance: Advance) -> Write | None:
        target = out / f"{image_id}.png"
        if resume and target.is_file():
            return None
        label = read_label(labels[image_id])
        found = find_masks(image_id, label, advance)
        refined = refine_label(label, found, settings)
        return lambda: write_label(target, refined)

    outcome = run_batch(list(labels), work, name=lambda i: str(labels[i]), quiet=quiet)
    outcome.finish(quiet=quiet, json_file=json_file)


def _label_files(folder: Path) -> dict[str, Path]:
    """List the label files of a folder by id, sorted. Raises SettingsError if there is none."""
    files = {path.stem: path for path in sorted(folder.glob("*.png")) if path.name[0] != "."}
    if not files:
        raise SettingsError(f"no .png labels in {folder}")
    return files


def _stored_masks(path: Path) -> MaskSource:
    """Return a source that reads masks from files."""
    return lambda image_id, label, advance: read_stored_masks(
        path, image_id, image_shape=label.shape
    )


def _generated_masks(folder: Path, mask_generator: MaskGenerator) -> MaskSource:
    """Return a source that finds the masks of the images in a folder."""
    files = image_files([folder])
    ahead = ReadAhead(list(files.values()))

    def find(image_id: str, label: LabelMap, advance: Advance) -> Masks:
        if image_id not in files:
            raise LabelError(f"no image of this id in {folder}")
        image = ahead.read(files[image_id])
        if image.shape[:2] != label.shape:
            raise LabelError(
                f"label is {label.shape[1]} x {label.shape[0]} pixels, its image "
                f"{files[image_id]} is {image.shape[1]} x {image.shape[0]}"
            )
        return mask_generator.generate(
            image, pseudo_label=label, progress=lambda done, total: advance(done / total)
        )

    return find
