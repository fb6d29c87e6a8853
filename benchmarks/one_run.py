"""Everything mode once, in a separate process: prints its seconds, peak memory and masks.

    python -m benchmarks.one_run --side runtime --model mobile_sam

With --side runtime, torch is never imported.
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

from benchmarks.setting import SEED, benchmark_image, random_bundle

Image = NDArray[np.uint8]
"""(H, W, 3) uint8."""


def run_alone(side: str, **options: Any) -> dict[str, float]:
    """Run in a new process and return the figures; options are those of the command line."""
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
    return lambda image: everything(sam, image, **settings)


def _runtime(model: str, threads: int, settings: dict[str, Any]) -> Callable[[Image], Any]:
    from samrefine_runtime.backends import SessionOptions
    from samrefine_runtime.sam.generator import MaskGenerator

    session = SessionOptions(threads=threads)
    return MaskGenerator(random_bundle(model), session=session, **settings).records


def peak_mb() -> float:
    """Return the peak resident memory of this process, MB."""
    # getrusage would count that of the parent until exec
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    return int(kilobytes) / 1e3


def forget_peak() -> None:
    """Reset the peak to what is resident now."""
    # Making a large synthetic image takes more memory than finding its masks
    Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM, see proc(5)


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
    # Load the model
    image = benchmark_image(megapixels)
    run = (_reference if side == "reference" else _runtime)(model, threads, settings)
    # Measure one run
    forget_peak()
    start = time.perf_counter()
    masks = run(image)
    seconds = time.perf_counter() - start
    figures = {"seconds": seconds, "peak_mb": peak_mb(), "masks": len(masks)}
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
