"""Everything mode once, in a process of its own: prints its seconds, peak memory and masks.

    python -m benchmarks.one_run --side runtime --model mobile_sam

The runtime's side never imports torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import SEED, image, random_bundle

Image = NDArray[np.uint8]


def run_alone(side: str, **options: Any) -> dict[str, float]:
    """Figures of one run in a fresh process; options as on the command line."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.one_run", "--side", side]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _reference(model: str, threads: int, settings: dict[str, Any]) -> Callable[[Image], Any]:
    import torch

    from samrefine_export.sam import MODELS, random_sam
    from samrefine_export.sam.reference import everything

    torch.set_num_threads(threads)
    sam = random_sam(MODELS[model], SEED)
    return lambda pixels: everything(sam, pixels, **settings)


def _runtime(model: str, threads: int, settings: dict[str, Any]) -> Callable[[Image], Any]:
    from samrefine_runtime.backends import SessionOptions
    from samrefine_runtime.sam.generator import MaskGenerator

    session = SessionOptions(threads=threads)
    return MaskGenerator(random_bundle(model), session=session, **settings).records


def _peak_mb() -> float:
    """Peak resident memory of this program. getrusage would count the parent's until exec."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return int(kilobytes) / 1e3


def _forget_peak() -> None:
    """Count from what is resident now: making a synthetic image takes more than labelling it."""
    Path("/proc/self/clear_refs").write_text("5")


@click.command()
@click.option("--side", type=click.Choice(["reference", "runtime"]), required=True)
@click.option("--model", default="mobile_sam", show_default=True)
@click.option("--points-per-side", default=32, show_default=True)
@click.option("--threshold", default=0.0, show_default=True, help="Predicted IoU.")
@click.option("--megapixels", type=float, help="Size of the image.  [default: 500 x 375 pixels]")
@click.option("--threads", default=2, show_default=True)
def main(
    side: str,
    model: str,
    points_per_side: int,
    threshold: float,
    megapixels: float | None,
    threads: int,
) -> None:
    """Run and print one line of JSON."""
    settings = {
        "points_per_side": points_per_side,
        "pred_iou_thresh": threshold,
        "stability_score_thresh": 0.0,
        "output_mode": "uncompressed_rle",
    }
    pixels = image(megapixels)
    run = (_reference if side == "reference" else _runtime)(model, threads, settings)
    _forget_peak()
    start = time.perf_counter()
    masks = run(pixels)
    seconds = time.perf_counter() - start
    figures = {"seconds": seconds, "peak_mb": _peak_mb(), "masks": len(masks)}
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
