"""`samrefine refine`: pseudo labels and photos (or their masks) to refined labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.batch import Report, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.options import (
    ExistingFolder,
    ExistingPath,
    Folder,
    bundle_option,
    generator_options,
    output_options,
    prompts_option,
    resume_option,
    session_options,
)
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats.mask_folder import read_masks_for
from samrefine_runtime.image import ReadAhead
from samrefine_runtime.labels import read_label, write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import METHODS, Label, RefineSettings
from samrefine_runtime.refine import refine as refine_label
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.prompts import PROMPT_MODES, prompt_region

MaskSource = Callable[[str, Label, Report], Masks]
"""masks of the photo of an id, given its pseudo label"""


@click.command()
@click.option("--pseudo-labels", required=True, type=ExistingFolder, help="Label PNGs, <id>.png.")
@click.option("--images", type=ExistingFolder, help="Photos of the same ids (with --bundle).")
@bundle_option(required=False)
@click.option(
    "--masks",
    "masks_path",
    type=ExistingPath,
    help="Masks in the place of photos: what `masks` writes, or a folder of PNG masks an id.",
)
@click.option("--out", required=True, type=Folder, help="Output folder for refined label PNGs.")
@click.option("--method", type=click.Choice(METHODS), default="max_iou_imp2", show_default=True)
@click.option("--min-inside", default=0.5, show_default=True, help="Share of a mask on the class.")
@click.option("--min-cover", default=0.85, show_default=True, help="Share of the class in a mask.")
@click.option(
    "--max-area-ratio",
    type=float,
    help="The cover rule only for masks of at most this many times the class's area.",
)
@click.option("--num-classes", default=21, show_default=True, help="With background.")
@prompts_option(*PROMPT_MODES)
@generator_options
@session_options
@resume_option
@output_options
def refine(
    pseudo_labels: Path,
    images: Path | None,
    bundle: str | None,
    masks_path: Path | None,
    out: Path,
    method: Any,
    min_inside: float,
    min_cover: float,
    max_area_ratio: float | None,
    num_classes: int,
    prompts: str,
    generator: dict[str, Any],
    session: dict[str, Any],
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Refine pseudo labels with SAM's masks (SEPL).

    Give either --images with --bundle, or --masks.
    """
    settings = RefineSettings(method, min_inside, min_cover, max_area_ratio, num_classes)
    labels = _label_files(pseudo_labels)
    if masks_path is not None and images is None and bundle is None:
        find_masks = _stored_masks(masks_path)
    elif masks_path is None and images is not None and bundle is not None:
        hierarchical = prompts != "grid"
        make = MaskGenerator(open_bundle(bundle), hierarchical=hierarchical, **session, **generator)
        find_masks = _generated_masks(images, make, guided=prompts == "guided")
    else:
        raise SettingsError("give either --images with --bundle, or --masks alone")

    def work(image_id: str, report: Report) -> Write | None:
        target = out / f"{image_id}.png"
        if resume and target.is_file():
            return None
        label = read_label(labels[image_id])
        found = find_masks(image_id, label, report)
        refined = refine_label(label, found, settings)
        return lambda: write_label(target, refined)

    outcome = run_batch(list(labels), work, name=lambda i: str(labels[i]), quiet=quiet)
    outcome.finish(quiet=quiet, as_json=as_json)


def _label_files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for path in sorted(folder.glob("*.png")) if path.name[0] != "."}
    if not files:
        raise SettingsError(f"no .png labels in {folder}")
    return files


def _stored_masks(path: Path) -> MaskSource:
    return lambda image_id, label, report: read_masks_for(path, image_id, size=label.shape)


def _generated_masks(images: Path, make: MaskGenerator, *, guided: bool) -> MaskSource:
    photos = image_files([images])
    ahead = ReadAhead(list(photos.values()))

    def find(image_id: str, label: Label, report: Report) -> Masks:
        if image_id not in photos:
            raise LabelError(f"no photo of this id in {images}")
        image = ahead.read(photos[image_id])
        if image.shape[:2] != label.shape:
            raise LabelError(
                f"label is {label.shape[1]} x {label.shape[0]} pixels, its photo "
                f"{photos[image_id]} is {image.shape[1]} x {image.shape[0]}"
            )
        region = prompt_region(label) if guided else None
        return make.generate(
            image, region=region, progress=lambda done, total: report(done / total)
        )

    return find
