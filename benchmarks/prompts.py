"""What asking SAM less costs: prompts, refined mIoU and time of every prompt mode.

    python -m benchmarks.prompts [--bundle samrefine_rt/demo_bundle] [--json FILE]

On held-out demo scenes with the bundle's own CAM, and on VOC photos with their TransCAM labels
where `tests.photos` finds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import machine
from samrefine_export.demo.evaluate import held_out_scenes
from samrefine_export.demo.scenes import CLASSES
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.evaluate import Evaluation, confusion_matrix
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import METHODS, Label, RefineSettings, refine
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.prompts import PromptMode, prompt_region
from tests.photos import VOC, voc_photos

Sample = tuple[RgbImage, Label, Label]
"""photo, pseudo label, ground truth"""


def demo_samples(bundle: Bundle, count: int, threads: int) -> Iterator[Sample]:
    """Held-out scenes with the CAM's labels."""
    classifier = CamClassifier(bundle, None, threads=threads)
    for scene in held_out_scenes(count):
        pseudo_label, _ = classifier.run(scene.image, scene.image_labels).label()
        yield scene.image, pseudo_label, scene.label


def voc_samples(count: int) -> Iterator[Sample]:
    """VOC photos with TransCAM's labels."""
    for path in voc_photos(count):
        pseudo_label, truth = (read_label(VOC / k / f"{path.stem}.png") for k in ("transcam", "gt"))
        yield read_image(path), pseudo_label, truth


def measure(
    bundle: Bundle,
    samples: Iterator[Sample],
    classes: int,
    mode: PromptMode,
    settings: RefineSettings,
    threads: int,
) -> dict[str, Any]:
    """Prompts and seconds a photo, and mIoU before and after the refinement in percent."""
    make = MaskGenerator(bundle, hierarchical=mode != "grid", threads=threads)
    before, after = (np.zeros((classes, classes), np.int64) for _ in range(2))
    prompts, seconds = [], []
    for image, pseudo_label, truth in samples:
        start = time.perf_counter()
        region = prompt_region(pseudo_label) if mode == "guided" else None
        masks, asked = _masks(make, image, region)
        label = refine(pseudo_label, masks, settings)
        seconds.append(time.perf_counter() - start)
        prompts.append(asked)
        before += confusion_matrix(pseudo_label, truth, classes)
        after += confusion_matrix(label, truth, classes)
    return {
        "photos": len(prompts),
        "prompts": fmean(prompts),
        "seconds": fmean(seconds),
        "pseudo_miou": _miou(before),
        "miou": _miou(after),
    }


def _masks(
    make: MaskGenerator, image: RgbImage, region: NDArray[np.bool_] | None
) -> tuple[Masks, int]:
    """Masks, and how many prompts were asked for them."""
    asked = [0]
    masks = make.generate(image, region=region, progress=lambda done, total: asked.append(done))
    return masks, asked[-1]


def _miou(matrix: NDArray[np.int64]) -> float:
    return 100 * Evaluation(matrix, 1, [], []).miou


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("samrefine_rt/demo_bundle"))
@click.option("--scenes", default=200, show_default=True)
@click.option("--photos", default=150, show_default=True)
@click.option("--method", type=click.Choice(METHODS), default="max_iou_imp2", show_default=True)
@click.option("--max-area-ratio", type=float)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    bundle: Path,
    scenes: int,
    photos: int,
    method: Any,
    max_area_ratio: float | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure every mode on both sets and print a table."""
    loaded = Bundle.load(bundle)
    settings = RefineSettings(method, max_area_ratio=max_area_ratio)
    sets: dict[str, tuple[int, Callable[[], Iterator[Sample]]]] = {
        f"{scenes} demo scenes": (len(CLASSES) + 1, lambda: demo_samples(loaded, scenes, threads))
    }
    if VOC.is_dir():
        sets[f"{photos} VOC photos"] = (21, lambda: voc_samples(photos))
    rows = []
    click.echo(
        "| set | prompts | asked | refined mIoU | to grid | seconds |\n|---|---|---|---|---|---|"
    )
    for name, (classes, samples) in sets.items():
        found = {
            mode: measure(loaded, samples(), classes, mode, settings, threads)
            for mode in reversed(get_args(PromptMode))
        }
        for mode, figures in found.items():
            loss = figures["miou"] - found["grid"]["miou"]
            fewer = found["grid"]["prompts"] / figures["prompts"]
            rows.append({"set": name, "mode": mode, **figures})
            click.echo(
                f"| {name} | {mode} | {figures['prompts']:.0f} ({fewer:.1f}x fewer) | "
                f"{figures['miou']:.2f} | {loss:+.2f} | {figures['seconds']:.2f} |"
            )
    if json_file is not None:
        about = {"machine": machine(threads), "rows": rows}
        json_file.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
