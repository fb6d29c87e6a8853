"""`samrefine masks`: photos to all their masks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.batch import Report, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.options import (
    ExistingPath,
    Folder,
    bundle_option,
    generator_options,
    output_options,
    prompts_option,
    resume_option,
    session_options,
)
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats.coco import FILE_NAME, MASK_CLASSES, open_coco
from samrefine_runtime.formats.mask_folder import write_mask_folder
from samrefine_runtime.formats.records import write_masks
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import draw_masks, write_picture
from samrefine_runtime.sam.generator import MaskGenerator


@click.command()
@click.argument("images", nargs=-1, required=True, type=ExistingPath, metavar="IMAGE|DIR...")
@bundle_option()
@click.option("--out", required=True, type=Folder, help="Output folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["records", "coco", "png"]),
    default="records",
    show_default=True,
    help="records: SAM's records, one JSON a photo. coco: one instances.json. "
    "png: a folder of 0/255 PNG masks a photo.",
)
@click.option("--overlay", is_flag=True, help="Also draw <photo>.overlay.jpg.")
@prompts_option("grid", "hierarchical")
@generator_options
@session_options
@resume_option
@output_options
def masks(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    form: str,
    overlay: bool,
    prompts: str,
    generator: dict[str, Any],
    session: dict[str, Any],
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find all masks of photos, as SAM's automatic mask generator does.

    Options not given take the bundle's defaults, then SAM's.
    """
    if resume and form == "coco":
        raise SettingsError("--resume works with --format records or png: coco is one file")
    photos = image_files(images)
    hierarchical = prompts == "hierarchical"
    make = MaskGenerator(open_bundle(bundle), hierarchical=hierarchical, **session, **generator)
    counts: dict[str, int] = {}
    ahead = ReadAhead(list(photos.values()))

    with ExitStack() as stack:
        write_found, exists = _writer(form, out, stack)

        def write(photo: Path, image: RgbImage, found: Masks) -> None:
            write_found(photo, found)
            if overlay:
                write_picture(out / f"{photo.stem}.overlay.jpg", draw_masks(image, found))

        def work(image_id: str, report: Report) -> Write | None:
            if resume and exists(image_id):
                return None
            image = ahead.read(photos[image_id])
            found = make.generate(image, progress=lambda done, total: report(done / total))
            counts[image_id] = len(found)
            return partial(write, photos[image_id], image, found)

        outcome = run_batch(list(photos), work, name=lambda i: str(photos[i]), quiet=quiet)
    outcome.finish(quiet=quiet, as_json=as_json, masks=counts)


def _writer(
    form: str, out: Path, stack: ExitStack
) -> tuple[Callable[[Path, Masks], object], Callable[[str], bool]]:
    """How to write one photo's masks, and whether a photo's are there already."""
    if form == "coco":
        coco = stack.enter_context(open_coco(out / FILE_NAME, MASK_CLASSES))
        return lambda photo, found: coco.add_masks(photo.name, found), lambda image_id: False
    if form == "png":
        return (
            lambda photo, found: write_mask_folder(out / photo.stem, found),
            lambda image_id: (out / image_id).is_dir(),
        )
    return (
        lambda photo, found: write_masks(out / f"{photo.stem}.json", found),
        lambda image_id: (out / f"{image_id}.json").is_file(),
    )
