"""`samrefine evaluate`: label maps against ground truth."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.options import (
    STDOUT,
    ExistingFolder,
    json_option,
    progress_bar,
    quiet_option,
    write_results,
)
from samrefine_runtime.errors import printable
from samrefine_runtime.evaluate import Evaluation
from samrefine_runtime.evaluate import evaluate as compare
from samrefine_runtime.labels import MAX_CLASS, VOC_CLASSES

_SHOWN_IDS = 5
"""Missing images that the warning names; the JSON has all."""


@click.command(cls=GroupedCommand)
@click.argument("predictions", type=ExistingFolder)
@click.argument("ground_truth", type=ExistingFolder)
@option(
    "--num-classes",
    type=click.IntRange(2, MAX_CLASS + 1),
    default=len(VOC_CLASSES),
    metavar="N",
    help=f"Number of classes with background.  [default: {len(VOC_CLASSES)}]",
)
@json_option
@quiet_option
def evaluate(
    predictions: Path, ground_truth: Path, num_classes: int, json_file: Path | None, quiet: bool
) -> None:
    """Compare label maps with ground truth of the same file names.

    Figures come from one confusion matrix over all images. Pixels whose ground truth is 255 are
    ignored; classes that occur in neither are left out of the mean. Figures in JSON are 0 to 1
    and not rounded.
    """
    to_stdout = str(json_file) == STDOUT
    with progress_bar(quiet or to_stdout) as progress:
        result = compare(predictions, ground_truth, num_classes, progress)
    is_printed = write_results(result.to_json(), json_file)
    if not quiet and not is_printed:
        _print_table(result)
    for message in result.skipped:
        click.echo(f"Error: {printable(message)}", err=True)
    if result.missing:
        warn(f"no prediction for {_some(result.missing)}")
    if result.skipped or result.missing:
        click.get_current_context().exit(1)


def _print_table(result: Evaluation) -> None:
    classes = len(result.iou)
    names = VOC_CLASSES if classes == len(VOC_CLASSES) else [str(i) for i in range(classes)]
    click.echo(f"{'class':<14}{'IoU':>8}{'precision':>11}{'recall':>8}")
    for row in zip(names, result.iou, result.precision, result.recall, strict=True):
        cells = ["-" if np.isnan(value) else f"{100 * value:.2f}" for value in row[1:]]
        click.echo(f"{row[0]:<14}{cells[0]:>8}{cells[1]:>11}{cells[2]:>8}")
    click.echo(f"mIoU {100 * result.miou:.2f} over {result.images} images")


def _some(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN_IDS])
    return f"{len(ids)} ground-truth images: {shown}{', ...' if len(ids) > _SHOWN_IDS else ''}"
