"""OpenVINO in bf16 against ONNX Runtime in fp32, on the same graphs, by turns in one process.

    python -m benchmarks.engines [--model vit_b] [--repeats 3] [--json FILE]

Weights are random and seeded; about a fifth of the masks pass the predicted IoU threshold. Beside
the seconds are those that the process spent on CPUs, which other programs change less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.setting import KEPT, SEED, benchmark_image, machine, random_bundle
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.sam.encoder import preprocess
from samrefine_runtime.sam.generator import MaskGenerator

ENGINES = {
    "onnxruntime fp32": {"backend": "cpu"},
    "openvino fp32": {"backend": "openvino"},
    "openvino bf16": {"backend": "openvino", "precision": "bf16"},
}
"""Session options by name; the first is what the others are compared with."""


def by_turns(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Run every side by turns after a warm-up; return medians, and ratios to the first side."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            start = time.perf_counter(), time.process_time()
            run()
            now = time.perf_counter(), time.process_time()
            if turn:  # turn 0 is the warm-up
                taken[name].append((now[0] - start[0], now[1] - start[1]))
    first = next(iter(taken.values()))
    return {
        name: {
            "seconds": median(wall for wall, _ in runs),
            "cpu_seconds": median(cpu for _, cpu in runs),
            "ratio": median(a[0] / b[0] for a, b in zip(first, runs, strict=True)),
            "cpu_ratio": median(a[1] / b[1] for a, b in zip(first, runs, strict=True)),
        }
        for name, runs in taken.items()
    }


def generators(model: str, threads: int, points_per_side: int) -> dict[str, MaskGenerator]:
    """Return everything mode in every engine, with a threshold that a fifth of the masks pass."""
    bundle, image = random_bundle(model), benchmark_image()
    settings: dict[str, Any] = {"points_per_side": points_per_side, "stability_score_thresh": 0.0}
    plain = MaskGenerator(bundle, session=SessionOptions(threads=threads), pred_iou_thresh=0.0)
    prepared = plain.decoder.prepare(plain.encoder.embed(image))
    points = np.random.default_rng(SEED).random((16, 2)) * image.shape[1::-1]
    scores = plain.decoder.decode(prepared, points, -np.inf).scores
    settings["pred_iou_thresh"] = float(np.quantile(scores, 1 - KEPT))
    return {
        name: MaskGenerator(bundle, session={"threads": threads, **options}, **settings)
        for name, options in ENGINES.items()
    }


@click.command()
@click.option("--model", default="vit_b", show_default=True)
@click.option("--points-per-side", default=32, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="Of the encoder.")
@click.option("--whole-repeats", default=1, show_default=True, help="Of everything mode.")
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    model: str,
    points_per_side: int,
    repeats: int,
    whole_repeats: int,
    threads: int,
    json_file: Path | None,
) -> None:
    """Measure encoder and everything mode, and print a table."""
    image = benchmark_image()
    found = generators(model, threads, points_per_side)
    pixels = preprocess(image, next(iter(found.values())).sam)
    whole = f"{model}: everything mode, {points_per_side} x {points_per_side} points"
    rows = {
        f"{model}: encoder": by_turns(
            {name: partial(each.encoder.encode, pixels) for name, each in found.items()},
            repeats,
        ),
        whole: by_turns(
            {name: partial(each.generate, image) for name, each in found.items()},
            whole_repeats,
        ),
    }
    click.echo("| what | engine | seconds | CPU seconds | ratio | CPU ratio |")
    click.echo("|---|---|---|---|---|---|")
    for what, row in rows.items():
        for name, each in row.items():
            click.echo(
                f"| {what} | {name} | {each['seconds']:.2f} | {each['cpu_seconds']:.2f} "
                f"| {each['ratio']:.2f} | {each['cpu_ratio']:.2f} |"
            )
    about = machine(threads)
    click.echo(json.dumps(about))
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
