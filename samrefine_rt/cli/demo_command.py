"""`samrefine demo`: the whole pipeline on embedded images, measured against ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from samrefine_rt.cli.batch import Advance, Write, described, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.options import (
    Folder,
    RunOptions,
    output_options,
    session_options,
)
from samrefine_rt.cli.outputs import LabelWriter
from samrefine_rt.cli.runs import open_output
from samrefine_rt.demo import demo_images
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.evaluate import Confusion, Evaluation, confusion_matrix
from samrefine_runtime.formats import BASE_FORMAT
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.names import image_id
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.results import LabelResult
from samrefine_runtime.runs import IMAGE, Task

DRAWN_SCENES = RefineSettings(min_trust=0)
"""The embedded model was trained on scenes like the embedded images: every one is refined. Used on
anything else it is cautious, as every bundle is (`samrefine_export.demo.measure` says the same)."""

_MIOUS = ("cam_miou", "refined_miou")
"""Keys of the mIoU before and after the refinement."""


@click.command(cls=GroupedCommand)
@option("--out", type=Folder, default="samrefine-demo", show_default=True, help="Output folder.")
@session_options
@output_options
def demo(out: Path, session: SessionOptions, quiet: bool, json_file: Path | None) -> None:
    """Run the whole pipeline on embedded images, offline.

    From nothing but the classes in each of six images, it writes pixel labels, compares them with
    the ground truth before and after the refinement, and writes report.html.
    """
    bundle = open_bundle("demo", is_suited=True)
    labeler = Labeler(bundle, refinement=DRAWN_SCENES, session=session)
    images = demo_images(labeler.classes)
    title = "samrefine demo"
    writer = LabelWriter(out, labeler.classes, (BASE_FORMAT,), report=True, report_title=title)
    files = {image_id(each.path): each.path for each in images}
    scores: dict[str, _Score] = {}
    known = {image_id(each.path): each for each in images}

    def work(task: Task, missing: Sequence[str], advance: Advance) -> Write:
        name, demo_image = task.label, known[task.label]
        image, truth = demo_image.read(), demo_image.ground_truth()
        result = labeler.label(
            image, demo_image.image_labels, progress=lambda done, total: advance(done / total)
        )
        scores[name] = _Score.of(result, truth, len(writer.classes))
        path = demo_image.path
        return lambda staging: writer.write(staging, name, path, image, result, truth)

    tasks = [Task(IMAGE + name, name, writer.kinds, writer.derived) for name in files]
    # The table is of all images: each is labelled, whatever an earlier run left
    run = RunOptions(overwrites=True)
    with open_output(out, "demo", run, inputs=[], bundle=bundle, settings=[session]) as folder:
        outcome = run_batch(tasks, work, folder, run, quiet=quiet)
        writer.finish(folder, files, outcome)
    figures = {name: score.to_json() for name, score in scores.items()}
    overall = _overall(list(scores.values()))
    if not quiet:
        _print_table(figures, overall)
        click.echo(f"\nreport  {out / 'report.html'}\nlabels  {out / BASE_FORMAT}")
        for line in described(labeler.runs_on):
            click.echo(line)
    outcome.finish(
        quiet=True,
        json_file=json_file,
        runs_on=labeler.runs_on,
        images=figures,
        overall=overall,
    )


@dataclass(frozen=True)
class _Score:
    """Figures of one image: pseudo label and refined label against the ground truth."""

    before: Confusion
    """Of the pseudo label."""
    after: Confusion
    """Of the refined label."""
    masks: int
    """Number of masks."""
    seconds: float
    """Seconds of all stages."""

    @classmethod
    def of(cls, result: LabelResult, truth: LabelMap, num_classes: int) -> _Score:
        return cls(
            confusion_matrix(result.pseudo_label, truth, num_classes),
            confusion_matrix(result.label, truth, num_classes),
            len(result.masks),
            sum(result.seconds.values()),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "cam_miou": _miou([self.before]),
            "refined_miou": _miou([self.after]),
            "masks": self.masks,
            "seconds": round(self.seconds, 3),
        }


def _overall(scores: list[_Score]) -> dict[str, Any]:
    """Combine the images; one confusion matrix over all of them, as in `samrefine evaluate`."""
    return {
        "cam_miou": _miou([score.before for score in scores]),
        "refined_miou": _miou([score.after for score in scores]),
        "masks": sum(score.masks for score in scores),
        "seconds": round(sum(score.seconds for score in scores), 3),
    }


def _miou(confusions: list[Confusion]) -> float | None:
    if not confusions:
        return None
    return Evaluation(np.sum(confusions, axis=0), len(confusions), [], []).miou


def _print_table(figures: dict[str, dict[str, Any]], overall: dict[str, Any]) -> None:
    click.echo(f"{'image':<16}{'CAM mIoU':>10}{'refined mIoU':>14}{'masks':>7}{'seconds':>9}")
    for name, row in {**figures, "all": overall}.items():
        cells = ["-" if row[key] is None else f"{100 * row[key]:.1f}" for key in _MIOUS]
        click.echo(f"{name:<16}{cells[0]:>10}{cells[1]:>14}{row['masks']:>7}{row['seconds']:>9.1f}")
