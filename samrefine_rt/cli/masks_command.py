"""`samrefine masks`: images to all their masks."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from samrefine_rt.cli.batch import Advance, Write, image_files, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import MASKS, GroupedCommand, option
from samrefine_rt.cli.options import (
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
from samrefine_rt.cli.outputs import overlay_path
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats import MASK_FORMATS, MaskFormat
from samrefine_runtime.formats.coco import FILE_NAME
from samrefine_runtime.image import ReadAhead, RgbImage
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import draw_masks, write_picture
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.prompts import PROMPT_MODES
from samrefine_runtime.sam.settings import GeneratorSettings

# There is no pseudo label here that prompts could follow
COCO_ID = Path(FILE_NAME).stem
"""The image id whose records have the name of the COCO file."""

_MODES = [mode for mode, plan in PROMPT_MODES.items() if not plan.needs_pseudo_label]


@click.command(cls=GroupedCommand)
@click.argument("images", nargs=-1, required=True, type=ExistingPath, metavar="IMAGE|DIR...")
@bundle_option()
@option("--out", required=True, type=Folder, help="Output folder.")
@format_option(MASK_FORMATS, "records")
@option("--overlay", is_flag=True, help="Also draw overlays/<image>.jpg.")
@settings_options(
    GeneratorSettings,
    "generator",
    MASKS,
    defaults={"prompts": "grid"},
    choices={"prompts": _MODES},
    shows_defaults=False,
)
@session_options
@resume_option
@output_options
def masks(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    formats: tuple[str, ...],
    overlay: bool,
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    resume: bool,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Find all masks of images (everything mode).

    The masks are those of SAM's automatic mask generator. Formats: "records" writes one JSON file
    per image with SAM's records, "png" one folder per image with PNG masks of 0 and 255, "coco"
    one instances.json for all images.
    """
    if resume and "coco" in formats:
        raise SettingsError("--resume does not work with --format coco, which is one file")
    files = image_files(images)
    if {"coco", "records"} <= {*formats} and COCO_ID in files:
        raise SettingsError(f"the records of {files[COCO_ID]} would be written over the COCO file")
    mask_generator = MaskGenerator(open_bundle(bundle), session=session, **generator.values)
    chosen = [MASK_FORMATS[name](out) for name in formats]
    counts: dict[str, int] = {}
    ahead = ReadAhead(list(files.values()))

    def work(image_id: str, advance: Advance) -> Write | None:
        if resume and all(form.has(image_id) for form in chosen):
            return None
        image = ahead.read(files[image_id])
        found = mask_generator.generate(image, progress=lambda done, total: advance(done / total))
        counts[image_id] = len(found)
        return partial(_write, chosen, files[image_id], image, found, out if overlay else None)

    with ExitStack() as stack:
        for form in chosen:
            stack.enter_context(form.open())
        outcome = run_batch(list(files), work, name=lambda i: str(files[i]), quiet=quiet)
    outcome.finish(quiet=quiet, json_file=json_file, masks=counts)


def _write(
    formats: list[MaskFormat], path: Path, image: RgbImage, found: Masks, overlays: Path | None
) -> None:
    """Write the masks of one image in every format, and its overlay where a folder is given."""
    for form in formats:
        form.write(path, found)
    if overlays is not None:
        write_picture(overlay_path(overlays, path.stem), draw_masks(image, found))
