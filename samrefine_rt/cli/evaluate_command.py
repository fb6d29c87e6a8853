"""`samrefine evaluate`: label maps against ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.classes import classes_beside, classes_option, names_of
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.options import (
    LabelFolder,
    progress_bar,
    results_options,
    write_results,
)
from samrefine_runtime.class_names import BACKGROUND
from samrefine_runtime.errors import SettingsError, printable
from samrefine_runtime.evaluate import Evaluation
from samrefine_runtime.evaluate import evaluate as compare
from samrefine_runtime.labels import MAX_CLASS, VOC_CLASSES
from samrefine_runtime.listing import files_in

_SHOWN_IDS = 5
"""Missing images that the warning names; the JSON has all."""


@click.command(cls=GroupedCommand)
@click.argument("predictions", type=LabelFolder())
@click.argument("ground_truth", type=LabelFolder())
@option(
    "--num-classes",
    type=click.IntRange(2, MAX_CLASS + 1),
    metavar="N",
    help="Number of classes with background.  "
    f"[default: those with a name, else {len(VOC_CLASSES)}]",
)
@classes_option("classes.txt beside the labels")
@results_options
def evaluate(
    predictions: Path,
    ground_truth: Path,
    num_classes: int | None,
    classes: tuple[str, ...] | None,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Compare label maps with ground truth of the same file names.

    Figures come from one confusion matrix over all images. Pixels whose ground truth is 255 are
    ignored; classes that occur in neither are left out of the mean. Figures in JSON are 0 to 1
    and not rounded.
    """
    names = names_of(
        (path.stem for path in files_in(ground_truth, {".png"})),
        given=classes,
        num_classes=num_classes,
        beside=_beside(predictions, ground_truth) if classes is None else None,
    )
    with progress_bar(quiet) as progress:
        result = compare(predictions, ground_truth, len(names) + 1, progress)
    is_printed = write_results({"classes": [BACKGROUND, *names], **result.to_json()}, json_file)
    if not quiet and not is_printed:
        _print_table(result, (BACKGROUND, *names))
    for message in result.skipped:
        click.echo(f"Error: {printable(message)}", err=True)
    if result.missing:
        warn(f"no prediction for {_some(result.missing)}")
    if result.skipped or result.missing:
        click.get_current_context().exit(1)


def _beside(predictions: Path, ground_truth: Path) -> tuple[str, ...] | None:
    """Return the classes beside predictions or ground truth. Raises SettingsError for two lists."""
    found = {folder: classes_beside(folder) for folder in (predictions, ground_truth)}
    lists = {names for names in found.values() if names is not None}
    if len(lists) > 1:
        raise SettingsError(
            f"{predictions} and {ground_truth} have classes of other names beside them; --classes "
            "says which they are"
        )
    return next(iter(lists), None)


def _print_table(result: Evaluation, names: Sequence[str]) -> None:
    shown = [printable(name) for name in names]
    width = max(14, *(len(name) + 2 for name in shown))
    click.echo(f"{'class':<{width}}{'IoU':>8}{'precision':>11}{'recall':>8}")
    for row in zip(shown, result.iou, result.precision, result.recall, strict=True):
        cells = ["-" if np.isnan(value) else f"{100 * value:.2f}" for value in row[1:]]
        click.echo(f"{row[0]:<{width}}{cells[0]:>8}{cells[1]:>11}{cells[2]:>8}")
    click.echo(f"mIoU {100 * result.miou:.2f} over {result.images} images")


def _some(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_IDS])
    return f"{len(ids)} ground-truth images: {shown}{', ...' if len(ids) > _SHOWN_IDS else ''}"
