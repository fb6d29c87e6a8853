"""How everything mode grows: with the grid, the image and the number of masks that survive.

python -m benchmarks.scaling [--model mobile_sam] [--json FILE]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.one_run import run_alone
from benchmarks.setting import SEED, image, machine, random_bundle
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.sam.generator import MaskGenerator

GRIDS = (8, 16, 32, 64)
MEGAPIXELS = (0.2, 1, 4, 12, 24)
SHARES = (0.0, 0.05, 0.2, 0.5, 1.0)


def thresholds(model: str, threads: int) -> dict[float, float]:
    """The predicted IoU that each share of the masks exceeds."""
    session = SessionOptions(threads=threads)
    generator = MaskGenerator(random_bundle(model), session=session, pred_iou_thresh=0.0)
    pixels = image()
    prepared = generator.decoder.prepare(generator.encoder.embed(pixels))
    points = np.random.default_rng(SEED).random((16, 2)) * pixels.shape[1::-1]
    scores = generator.decoder.decode(prepared, points, -np.inf).scores
    return {share: float(np.quantile(scores, 1 - share)) for share in SHARES if 0 < share < 1} | {
        0.0: 10.0,
        1.0: -10.0,
    }


@click.command()
@click.option("--model", default="mobile_sam", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--quick", is_flag=True, help="The smaller half of each series.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(model: str, threads: int, quick: bool, json_file: Path | None) -> None:
    """Measure the runtime alone and print a table."""
    cuts = thresholds(model, threads)
    kept = {"model": model, "threads": threads, "threshold": cuts[0.2]}
    small = {**kept, "points_per_side": 8}
    grids, sizes, shares = (
        (GRIDS[:2], MEGAPIXELS[:3], SHARES[::2]) if quick else (GRIDS, MEGAPIXELS, SHARES)
    )
    rows: list[dict[str, Any]] = []
    for side in grids:
        rows.append({"grid": side, **run_alone("runtime", **{**kept, "points_per_side": side})})
        _show(rows[-1])
    for size in sizes:
        rows.append({"megapixels": size, **run_alone("runtime", **small, megapixels=size)})
        _show(rows[-1])
    for share in shares:
        options = {**small, "points_per_side": 16, "threshold": cuts[share]}
        rows.append({"share kept": share, **run_alone("runtime", **options)})
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
