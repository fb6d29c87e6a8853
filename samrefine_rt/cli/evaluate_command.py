"""`samrefine evaluate`: label maps against ground truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from samrefine_rt.cli.options import ExistingFolder
from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.evaluate import Evaluation
from samrefine_runtime.evaluate import evaluate as compare
from samrefine_runtime.labels import VOC_CLASSES


@click.command()
@click.argument("predictions", type=ExistingFolder)
@click.argument("ground_truth", type=ExistingFolder)
@click.option("--num-classes", default=21, show_default=True, help="With background.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Also write the figures, 0 to 1 and unrounded, to a file (- for stdout alone).",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no table.")
def evaluate(
    predictions: Path, ground_truth: Path, num_classes: int, json_file: Path | None, quiet: bool
) -> None:
    """Compare label PNGs with ground truth of the same names.

    One confusion matrix over all images; ground truth of 255 is ignored; classes that occur in
    neither are left out of the mean.
    """
    to_stdout = json_file is not None and str(json_file) == "-"
    stderr = sys.stderr
    bar: Any = click.progressbar(length=1, hidden=quiet or to_stdout, file=stderr)

    def progress(done: int, total: int) -> None:
        bar.length = total
        bar.update(done - bar.pos)

    with bar:
        result = compare(predictions, ground_truth, num_classes, progress)
    text = json.dumps(result.to_json(), indent=2)
    if to_stdout:
        click.echo(text)
    elif json_file is not None:
        write_bytes(json_file, text.encode() + b"\n")
    if not quiet and not to_stdout:
        _print_table(result)
    for message in result.skipped:
        click.echo(f"Error: {message}", err=True)
    if result.missing:
        click.echo(f"Warning: no prediction for {_some(result.missing)}", err=True)
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
    shown = ", ".join(ids[:5])
    return f"{len(ids)} ground-truth images: {shown}{', ...' if len(ids) > 5 else ''}"
