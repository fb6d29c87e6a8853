"""What fewer prompts cost: prompts, refined mIoU and time of every prompt mode.

    python -m benchmarks.prompts [--bundle demo] [--json FILE]

Measured on held-out demo scenes with the bundle's own CAM, and on VOC images with TransCAM's labels
if `benchmarks.samples` finds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import VOC, voc_images
from benchmarks.setting import machine
from samrefine_export.demo.evaluate import held_out_scenes
from samrefine_export.demo.scenes import CLASSES
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.evaluate import Evaluation, confusion_matrix
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.labels import VOC_CLASSES, LabelMap, read_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import METHODS, RefineSettings, refine
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.prompts import PROMPT_MODES, PromptMode

Sample = tuple[RgbImage, LabelMap, LabelMap]
"""Image (H, W, 3) uint8, pseudo label (H, W) and ground truth (H, W)."""


def demo_samples(bundle: Bundle, count: int, threads: int) -> Iterator[Sample]:
    """Yield held-out scenes with the CAM's labels."""
    classifier = CamClassifier(bundle, session=SessionOptions(threads=threads))
    for scene in held_out_scenes(count):
        pseudo_label, _ = classifier.run(scene.image, scene.image_labels).label()
        yield scene.image, pseudo_label, scene.label


def voc_samples(count: int) -> Iterator[Sample]:
    """Yield VOC images with TransCAM's labels."""
    for path in voc_images(count):
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
    """Measure prompts and seconds per image, and mIoU in percent before and after refinement."""
    session = SessionOptions(threads=threads)
    generator = MaskGenerator(bundle, prompts=mode, session=session)
    before, after = (np.zeros((classes, classes), np.int64) for _ in range(2))
    prompts, seconds = [], []
    for image, pseudo_label, truth in samples:
        start = time.perf_counter()
        masks, asked = _masks(generator, image, pseudo_label)
        label = refine(pseudo_label, masks, settings)
        seconds.append(time.perf_counter() - start)
        prompts.append(asked)
        before += confusion_matrix(pseudo_label, truth, classes)
        after += confusion_matrix(label, truth, classes)
    return {
        "images": len(prompts),
        "prompts": fmean(prompts),
        "seconds": fmean(seconds),
        "pseudo_miou": _miou(before),
        "miou": _miou(after),
    }


def _masks(generator: MaskGenerator, image: RgbImage, pseudo_label: LabelMap) -> tuple[Masks, int]:
    """Find the masks of an image, and count the prompts that were decoded for them."""
    asked = [0]
    masks = generator.generate(
        image, pseudo_label=pseudo_label, progress=lambda done, total: asked.append(done)
    )
    return masks, asked[-1]


def _miou(matrix: NDArray[np.int64]) -> float:
    return 100 * Evaluation(matrix, 1, [], []).miou


@click.command()
@click.option("--bundle", default="demo", show_default=True)
@click.option("--scenes", default=200, show_default=True)
@click.option("--images", default=150, show_default=True)
@click.option("--method", type=click.Choice(METHODS), default="max_iou_imp2", show_default=True)
@click.option("--max-area-ratio", type=float)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    bundle: str,
    scenes: int,
    images: int,
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
        sets[f"{images} VOC images"] = (len(VOC_CLASSES), lambda: voc_samples(images))
    # Measure every mode on every set and compare it with grid
    rows = []
    click.echo(
        "| set | prompts | asked | refined mIoU | to grid | seconds |\n|---|---|---|---|---|---|"
    )
    for name, (classes, samples) in sets.items():
        found = {
            mode: measure(loaded, samples(), classes, mode, settings, threads)
            for mode in reversed(list(PROMPT_MODES))
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
