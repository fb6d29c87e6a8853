"""`samrefine masks`: images to all their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from samrefine_rt.cli.batch import Advance, Work, Write, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import MASKS, GroupedCommand, option
from samrefine_rt.cli.images import find_images, images_argument
from samrefine_rt.cli.mask_outputs import MaskWriter
from samrefine_rt.cli.options import (
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
from samrefine_rt.cli.runs import open_output
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats import MASK_FORMATS, MaskFormat
from samrefine_runtime.image import ReadAhead
from samrefine_runtime.runs import IMAGE, Task
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.prompts import PROMPT_MODES
from samrefine_runtime.sam.settings import GeneratorSettings

# There is no pseudo label here that prompts could follow
_MODES = [mode for mode, plan in PROMPT_MODES.items() if not plan.needs_pseudo_label]


@click.command(cls=GroupedCommand)
@images_argument()
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
@run_options
@output_options
def masks(
    images: tuple[Path, ...],
    bundle: str,
    out: Path,
    formats: tuple[str, ...],
    overlay: bool,
    generator: Given[GeneratorSettings],
    session: SessionOptions,
    run: RunOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Find all masks of images (everything mode).

    The masks are those of SAM's automatic mask generator. Formats: "records" writes one JSON file
    per image with SAM's records, "png" one folder per image with PNG masks of 0 and 255, "coco"
    one instances.json for all images.
    """
    found = find_images(images)
    found.tell(quiet=quiet)
    files = found.files
    _check_places(files, [MASK_FORMATS[name](out) for name in formats])
    loaded = open_bundle(bundle)
    mask_generator = MaskGenerator(loaded, session=session, **generator.values)
    writer = MaskWriter(out, formats, overlay=overlay)
    tasks = [
        Task(IMAGE + name, str(path), writer.kinds, writer.derived, {"image": path})
        for name, path in files.items()
    ]
    counts: dict[str, int] = {}
    settings = [mask_generator.settings, session]
    with open_output(out, "masks", run, inputs=images, bundle=loaded, settings=settings) as folder:
        work = _work(files, mask_generator, writer, counts)
        outcome = run_batch(tasks, work, folder, run, quiet=quiet)
        writer.finish(folder, files, outcome)
    outcome.finish(
        quiet=quiet,
        json_file=json_file,
        runs_on=mask_generator.runs_on,
        left_out=found.counts(),
        masks=counts,
    )


def _check_places(files: Mapping[str, Path], formats: Sequence[MaskFormat]) -> None:
    """Raise SettingsError if two formats would write the masks of an image to the same place."""
    for name, path in files.items():
        places = [form.place(name) for form in formats]
        twice = next((place for place in places if places.count(place) > 1), None)
        if twice is not None:
            raise SettingsError(
                f"{path} would have two files of the name {twice.name}; rename the image or "
                "choose one format"
            )


def _work(
    files: Mapping[str, Path],
    mask_generator: MaskGenerator,
    writer: MaskWriter,
    counts: dict[str, int],
) -> Work:
    """Return the function that finds the masks of one image, and returns what writes its files.

    Args:
        files: the images by id.
        mask_generator: finds the masks.
        writer: writes the files.
        counts: receives the number of masks by id.
    """
    ahead = ReadAhead(list(files.values()))

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        path, name = task.files["image"], task.key.removeprefix(IMAGE)
        image = ahead.read(path)
        if len(missing) < len(task.kinds):
            found = writer.read(name)
        else:
            found = mask_generator.generate(
                image, progress=lambda done, total: advance(done / total)
            )
        counts[name] = len(found)
        return lambda staging: writer.write(staging, name, image, found, missing)

    return work
