"""`samrefine demo`: the whole way on embedded photos, measured against their ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from samrefine_rt.cli.batch import Report, Write, run_batch
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.options import Folder, output_options, session_options
from samrefine_rt.cli.outputs import LabelWriter
from samrefine_rt.demo import DemoPhoto, demo_photos
from samrefine_runtime.evaluate import Confusion, Evaluation, confusion_matrix
from samrefine_runtime.pipeline import Labeler, LabelResult
from samrefine_runtime.refine import Label


@click.command()
@click.option("--out", type=Folder, default="samrefine-demo", show_default=True, help="Output.")
@session_options
@output_options
def demo(out: Path, session: dict[str, Any], quiet: bool, as_json: bool) -> None:
    """Label six embedded photos with the embedded bundle, offline.

    Told only which classes are in each photo, it writes pixel labels, compares them with the
    ground truth before and after the refinement, and draws report.html.
    """
    labeler = Labeler(open_bundle("demo"), **session)
    photos = demo_photos(labeler.classes)
    writer = LabelWriter(
        out, labeler.classes, ("voc",), overlay=False, report=True, report_title="samrefine demo"
    )
    scores: dict[str, _Score] = {}

    def work(photo: DemoPhoto, tell: Report) -> Write:
        image, truth = photo.image(), photo.ground_truth()
        result = labeler.label(
            image, photo.image_labels, progress=lambda done, total: tell(done / total)
        )
        scores[photo.path.stem] = _Score.of(result, truth, len(writer.classes))
        return lambda: writer.write(photo.path, image, result, truth)

    outcome = run_batch(photos, work, name=lambda photo: photo.path.stem, quiet=quiet)
    writer.finish({photo.path.stem: photo.path for photo in photos if photo.path.stem in scores})
    figures = {name: score.to_json() for name, score in scores.items()}
    overall = _overall(list(scores.values()))
    if not quiet and not as_json:
        _print_table(figures, overall)
        click.echo(f"\nlook at  {out / 'report.html'}\nlabels   {out / 'voc'}")
    outcome.finish(quiet=True, as_json=as_json, images=figures, overall=overall)


@dataclass(frozen=True)
class _Score:
    """How good one photo's labels are."""

    before: Confusion
    after: Confusion
    masks: int
    seconds: float

    @classmethod
    def of(cls, result: LabelResult, truth: Label, num_classes: int) -> _Score:
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
    """One confusion matrix over all photos, as `samrefine evaluate` has it."""
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


_MIOUS = ("cam_miou", "refined_miou")
