"""Kills runs at random moments and compares what their successors leave with an undisturbed run.

`python -m tests.kill --kills 200` does what the tests do with a few kills, over all commands.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.labels import write_label
from samrefine_runtime.runs import HIDDEN
from tests.command import write_image

IMAGES = 12
"""Images of a run: it takes about a second."""


@dataclass(frozen=True)
class Scenario:
    """A command, and settings under which its first runs may differ from the last."""

    command: tuple[str, ...]
    """The command with its inputs, but for --out."""
    last: tuple[str, ...]
    """Options of the last run."""
    earlier: tuple[str, ...]
    """Other options, of results that the last run must replace."""


def scenarios(folder: Path, bundle: Path) -> dict[str, Scenario]:
    """Write inputs into `folder` and return a scenario per command."""
    label = np.zeros((40, 56), np.uint8)
    label[6:20, 6:20], label[22:36, 30:50] = 1, 3
    for number in range(IMAGES):
        write_image(folder / "images" / f"{number:02}.png", number)
        write_label(folder / "labels" / f"{number:02}.png", label)
        annotation = "<annotation><object><name>red</name><bndbox><xmin>7</xmin><ymin>7</ymin>"
        annotation += "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        write_bytes(folder / "boxes" / f"{number:02}.xml", annotation.encode())
    images, labels, boxes = (str(folder / name) for name in ("images", "labels", "boxes"))
    common = ("--bundle", str(bundle), "--threads", "1", "-q")
    return {
        "label": Scenario(
            ("label", images, *common),
            ("--points-per-side", "2", "--format", "voc,coco,labelme", "--report"),
            ("--points-per-side", "3", "--format", "voc,yolo,coco-rle", "--overlay"),
        ),
        "refine": Scenario(
            ("refine", "--pseudo-labels", labels, "--images", images, *common),
            ("--points-per-side", "2", "--min-trust", "0", "--format", "coco,yolo", "--overlay"),
            ("--points-per-side", "3", "--min-trust", "1", "--format", "labelme", "--report"),
        ),
        "segment": Scenario(
            ("segment", images, "--boxes", boxes, *common),
            ("--classes", "red,blue", "--format", "coco,labelme", "--masks-format", "png,coco"),
            ("--classes", "blue,red", "--format", "yolo", "--masks-format", "records"),
        ),
        "masks": Scenario(
            ("masks", images, *common),
            ("--points-per-side", "2", "--format", "png,coco"),
            ("--points-per-side", "3", "--format", "records,png", "--overlay"),
        ),
    }


def start(scenario: Scenario, options: tuple[str, ...], out: Path) -> subprocess.Popen[str]:
    """Start a run of a scenario."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "samrefine_rt", *scenario.command, *options, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def finish(scenario: Scenario, options: tuple[str, ...], out: Path) -> float:
    """Run a scenario to its end; return the seconds it took."""
    begin = time.perf_counter()
    process = start(scenario, options, out)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return time.perf_counter() - begin


def killed(scenario: Scenario, options: tuple[str, ...], out: Path, seconds: float) -> None:
    """Start a run and kill it after some seconds."""
    process = start(scenario, options, out)
    time.sleep(seconds)
    process.kill()
    process.communicate(timeout=300)


def results(out: Path) -> dict[str, Any]:
    """Return what a run leaves: content by relative path, times aside."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        at = path.relative_to(out)
        if path.is_dir() or (at.parts[0] == HIDDEN and at.parts[1] != "masks"):
            continue
        content: Any = path.read_bytes()
        if at.parts[0] in ("summary", "report"):
            content = {**json.loads(content), "seconds": None}
        # The page shows seconds: that it is there must do
        found[str(at)] = None if at.name == "report.html" else content
    return found


def check(scenario: Scenario, folder: Path, kills: int, seed: int) -> None:
    """Kill runs `kills` times, half of them of other settings, and compare each outcome."""
    rng = random.Random(seed)
    seconds = finish(scenario, scenario.last, folder / "expected")
    expected = results(folder / "expected")
    for number in range(kills):
        out, is_other = folder / "out", number % 2 == 1
        shutil.rmtree(out, ignore_errors=True)
        first = scenario.earlier if is_other else scenario.last
        killed(scenario, first, out, rng.uniform(0.2, 1.2) * seconds)
        last = (*scenario.last, "--overwrite") if is_other else scenario.last
        # Now and then the run after it is killed too; its successor needs no leave to go on
        if rng.random() < 0.3:
            killed(scenario, last, out, rng.uniform(0.2, 1.0) * seconds)
        finish(scenario, last, out)
        found = results(out)
        assert found == expected, f"kill {number}: {differences(found, expected)}"
        assert not (out / HIDDEN / "staging").exists()


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the paths that are missing, left over or of another content."""
    return [
        path
        for path in sorted({*found, *expected})
        if path not in found or path not in expected or found[path] != expected[path]
    ]


@click.command()
@click.option("--kills", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, seed: int) -> None:
    """Kill runs of every command; the number is shared among them."""
    bundle = Path(__file__).parent / "data" / "small_bundle"
    with tempfile.TemporaryDirectory() as name:
        chosen = scenarios(Path(name), bundle)
        for command, scenario in chosen.items():
            folder = Path(name) / command
            folder.mkdir()
            check(scenario, folder, -(-kills // len(chosen)), seed)
            click.echo(f"{command}: {-(-kills // len(chosen))} killed runs, all as undisturbed")


if __name__ == "__main__":
    main()
