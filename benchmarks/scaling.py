"""How everything mode scales: with the grid, the image and the fraction of masks kept.

python -m benchmarks.scaling [--model mobile_sam] [--json FILE]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.one_run import run_alone
from benchmarks.setting import KEPT, SEED, benchmark_image, machine, random_bundle
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.sam.generator import MaskGenerator

GRIDS = (8, 16, 32, 64)
"""Points per side."""

MEGAPIXELS = (0.2, 1, 4, 12, 24)
"""Sizes of the image."""

FRACTIONS = (0.0, 0.05, KEPT, 0.5, 1.0)
"""Fractions of the masks that pass the predicted IoU threshold."""

_NONE_PASS, _ALL_PASS = 10.0, -10.0
"""Thresholds far above and below any predicted IoU."""


def thresholds(model: str, threads: int) -> dict[float, float]:
    """Find the predicted IoU that each fraction of the masks exceeds."""
    session = SessionOptions(threads=threads)
    generator = MaskGenerator(random_bundle(model), session=session, pred_iou_thresh=0.0)
    image = benchmark_image()
    prepared = generator.decoder.prepare(generator.encoder.embed(image))
    # A few random points: their masks stand for those of the grid
    points = np.random.default_rng(SEED).random((16, 2)) * image.shape[1::-1]
    scores = generator.decoder.decode(prepared, points, -np.inf).scores
    inner = {each: float(np.quantile(scores, 1 - each)) for each in FRACTIONS if 0 < each < 1}
    return {**inner, 0.0: _NONE_PASS, 1.0: _ALL_PASS}


@click.command()
@click.option("--model", default="mobile_sam", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="The smaller half of each series.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(model: str, threads: int, quick: bool, json_file: Path | None) -> None:
    """Measure the runtime alone and print a table."""
    cuts = thresholds(model, threads)
    kept = {"model": model, "threads": threads, "threshold": cuts[KEPT]}
    small = {**kept, "points_per_side": 8}
    grids, megapixels, fractions = (
        (GRIDS[:2], MEGAPIXELS[:3], FRACTIONS[::2]) if quick else (GRIDS, MEGAPIXELS, FRACTIONS)
    )
    # Vary one of the three at a time
    rows: list[dict[str, Any]] = []
    for side in grids:
        rows.append({"grid": side, **run_alone("runtime", **{**kept, "points_per_side": side})})
        _show(rows[-1])
    for size in megapixels:
        rows.append({"megapixels": size, **run_alone("runtime", **small, megapixels=size)})
        _show(rows[-1])
    for fraction in fractions:
        options = {**small, "points_per_side": 16, "threshold": cuts[fraction]}
        rows.append({"fraction kept": fraction, **run_alone("runtime", **options)})
        _show(rows[-1])
    if json_file is not None:
        about = {"machine": machine(threads), "rows": rows}
        json_file.write_text(json.dumps(about, indent=2) + "\n")


def _show(row: dict[str, Any]) -> None:
    name, value = next(iter(row.items()))
    click.echo(
        f"| {name} {value} | {row['seconds']:.2f} s | {row['peak_mb']:.0f} MB | "
        f"{row['masks']} masks |"
    )


if __name__ == "__main__":
    main()
