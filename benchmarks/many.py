"""A run over many images: whether its memory stays flat, and how fast a finished run is resumed.

python -m benchmarks.many [--images 10000]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2

from benchmarks.samples import synthetic
from samrefine_runtime.runs import HIDDEN

_SHAPE = (48, 64)
"""Shape (H, W) of the images: the work on one is as small as it can be."""

_WARM = 500
"""Images after which memory counts: all buffers have grown by then."""

_EVERY = 0.5
"""Seconds between two looks at the process."""


def write_images(folder: Path, count: int) -> None:
    """Write that many different images."""
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:06}.png"), synthetic(_SHAPE, number))


def watched(command: list[str], journal: Path) -> tuple[float, list[tuple[int, float]]]:
    """Run a command; return its seconds and, over time, the images done and the memory in MB."""
    begin, seen = time.perf_counter(), []
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(_EVERY)
            seen.append((_lines(journal), _resident_mb(process.pid)))
    if process.returncode != 0:
        raise click.ClickException(f"the run failed with exit code {process.returncode}")
    return time.perf_counter() - begin, [each for each in seen if each[1] > 0]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _resident_mb(pid: int) -> float:
    """Return the resident memory of a process, 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * 4096 / 1e6


@click.command()
@click.option("--images", "count", default=10_000, show_default=True)
def main(count: int) -> None:
    """Label many small images with the embedded bundle, then resume the finished run."""
    with tempfile.TemporaryDirectory() as name:
        images, out = Path(name) / "images", Path(name) / "out"
        write_images(images, count)
        command = [sys.executable, "-m", "samrefine_rt", "label", str(images), "--bundle", "demo"]
        command += ["--out", str(out), "--points-per-side", "2", "-q"]
        seconds, seen = watched(command, out / HIDDEN / "journal.jsonl")
        warm = [memory for done, memory in seen if done > _WARM]
        start, end = (statistics.median(part) for part in (warm[:10], warm[-10:]))
        click.echo(f"{count} images in {seconds:.0f} s, {1000 * seconds / count:.1f} ms each")
        click.echo(f"memory after {_WARM} images {start:.0f} MB, at the end {end:.0f} MB")
        seconds, _ = watched(command, out / HIDDEN / "journal.jsonl")
        click.echo(f"the finished run resumed in {seconds:.1f} s")


if __name__ == "__main__":
    main()
