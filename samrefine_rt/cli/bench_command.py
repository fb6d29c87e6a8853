"""`samrefine bench`: how fast a bundle runs on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.batch import described
from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.checkpoints import Checkpoint
from samrefine_rt.cli.grouped import GroupedCommand, OneOf, option
from samrefine_rt.cli.images import image_files, images_argument
from samrefine_rt.cli.options import (
    bundle_option,
    output_options,
    progress_bar,
    session_options,
    write_results,
)
from samrefine_rt.cli.torch_reference import torch_reference
from samrefine_rt.demo import IMAGES
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.diagnosis.bench import Benchmark
from samrefine_runtime.diagnosis.bench import bench as measure
from samrefine_runtime.image import read_image


@click.command(cls=GroupedCommand)
@images_argument(required=False)
@bundle_option()
@option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Images to run.")
@option(
    "--points-per-side",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="Point prompts along one side; SAM is asked at all of them.",
)
@option(
    "--peak-tflops",
    type=click.FloatRange(0, min_open=True),
    metavar="X",
    help="What the device can reach in this precision; the share of it is shown.",
)
@option(
    "--against",
    type=OneOf(["torch"]),
    help="Also run segment-anything in torch on the same image, once.",
)
@option("--checkpoint", type=Checkpoint(), help="Of the bundle's SAM, for --against torch.")
@session_options
@output_options
def bench(
    images: tuple[Path, ...],
    bundle: str,
    repeats: int,
    points_per_side: int,
    peak_tflops: float | None,
    against: str | None,
    checkpoint: Path | None,
    session: SessionOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Measure how fast a bundle runs here.

    Runs the whole grid on the given images or on the embedded ones, after one run that does not
    count, and prints the time of every graph and one line to paste.
    """
    loaded = open_bundle(bundle, is_suited=True)
    files = list(image_files(images or sorted(IMAGES.glob("*.jpg"))).values())
    # torch first fails first, before minutes of measurement
    sam = None if against is None else torch_reference().sam_of(loaded, checkpoint)
    with progress_bar(quiet) as progress:
        found = measure(
            loaded,
            files,
            session=session,
            repeats=repeats,
            points_per_side=points_per_side,
            progress=progress,
        )
    results = {**found.to_json(), **_share(found, peak_tflops)}
    if sam is not None:
        results["torch"] = _torch(sam, loaded, files[0], session, points_per_side)
    if write_results(results, json_file) or quiet:
        return
    _print_table(found, results)


def _share(found: Benchmark, peak_tflops: float | None) -> dict[str, float]:
    """Return the share of the device's arithmetic that was reached, 0 to 1, if it is known."""
    if peak_tflops is None or found.gflops is None:
        return {}
    return {"share_of_peak": found.gflops / (1e3 * peak_tflops)}


def _torch(
    sam: Any, bundle: Bundle, path: Path, session: SessionOptions, points_per_side: int
) -> dict[str, float]:
    """Run segment-anything's everything mode once, with the bundle's thresholds."""
    run = torch_reference().everything_in_torch(
        sam, session.threads, points_per_side, bundle.defaults
    )
    image = read_image(path)
    start = time.perf_counter()
    run(image)
    return {"seconds": time.perf_counter() - start}


def _print_table(found: Benchmark, results: dict[str, Any]) -> None:
    click.echo(f"{'stage':<22}{'runs':>6}{'p50 ms':>12}{'p90 ms':>12}")
    for stage in found.stages:
        cells = f"{1e3 * stage.p50:>12.1f}{1e3 * stage.p90:>12.1f}"
        click.echo(f"{stage.name:<22}{stage.runs:>6}{cells}")
    for line in described(found.runs_on):
        click.echo(line)
    if "share_of_peak" in results:
        click.echo(f"{100 * results['share_of_peak']:.1f}% of the peak")
    if "torch" in results:
        ours, theirs = found.stages[-1].p50, results["torch"]["seconds"]
        click.echo(f"segment-anything in torch {theirs:.1f} s, {theirs / ours:.2f} times as long")
    click.echo(found.line())
