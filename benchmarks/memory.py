"""Peak memory of whole commands on large images, with all classes of the demo bundle.

python -m benchmarks.memory [--megapixels 24 --megapixels 100] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image

from benchmarks.setting import machine
from samrefine_rt.demo import IMAGES, demo_images
from samrefine_runtime.bundle import Bundle

_COLUMNS = 3
"""Demo scenes side by side."""

_SCENE_SIDE = 384
"""Side of a scene before the enlargement, pixels."""

_RUN = """
import sys
from benchmarks.one_run import peak_mb
from samrefine_rt.cli import main
try:
    main(sys.argv[1:])
finally:
    print(peak_mb())
"""


def write_image(path: Path, megapixels: float) -> None:
    """Write all demo scenes as one large JPEG of 3 to 2."""
    classes = Bundle.load("demo").require_cam().classes
    side = (_SCENE_SIDE, _SCENE_SIDE)
    scenes = [cv2.resize(scene.read(), side) for scene in demo_images(classes, IMAGES)]
    rows = [np.hstack(scenes[i : i + _COLUMNS]) for i in range(0, len(scenes), _COLUMNS)]
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    large = cv2.resize(np.vstack(rows), (round(1.5 * height), height))
    Image.fromarray(large).save(path, quality=92)


def peak_mb_of(arguments: Sequence[object]) -> float:
    """Run `samrefine` with these arguments in a new process and return its peak memory in MB."""
    command = [sys.executable, "-c", _RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"samrefine failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def measure(folder: Path, megapixels: float, images: int) -> dict[str, float]:
    """Label some copies of a large image, refine their labels, and return each command's peak."""
    photos, out = folder / "images", folder / "labels"
    photos.mkdir(parents=True)
    write_image(photos / "0.jpg", megapixels)
    for index in range(1, images):
        (photos / f"{index}.jpg").symlink_to("0.jpg")
    classes = Bundle.load("demo").require_cam().classes
    given = {f"{index}.jpg": list(classes) for index in range(images)}
    (folder / "classes.json").write_text(json.dumps(given))
    # Masks that are not trusted would leave the labels as they are
    common = ["--bundle", "demo", "--min-trust", 0, "-q"]
    label = ["label", photos, "--image-labels", folder / "classes.json", "--out", out]
    refine = ["refine", "--pseudo-labels", out / "voc", "--images", photos]
    return {
        "label": peak_mb_of([*label, "--overlay", "--report", *common]),
        "refine": peak_mb_of([*refine, "--out", folder / "refined", *common]),
    }


@click.command()
@click.option("--megapixels", type=float, multiple=True, default=(24, 100), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(megapixels: tuple[float, ...], json_file: Path | None) -> None:
    """Measure one image alone, and three after another, and print a table."""
    rows = []
    for size in megapixels:
        for images in (1, 3):
            with tempfile.TemporaryDirectory() as folder:
                peaks = measure(Path(folder), size, images)
            rows.append({"megapixels": size, "images": images, **peaks})
            cells = [f"{size:g} megapixels", f"{images} images"]
            cells += [f"{name} {peak:.0f} MB" for name, peak in peaks.items()]
            click.echo(f"| {' | '.join(cells)} |")
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": machine(2), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
