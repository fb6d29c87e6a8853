"""The examples run, and do what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samrefine_rt.demo import IMAGES
from samrefine_runtime.formats import read_stored_masks
from samrefine_runtime.labels import read_label, write_label
from tests.command import files_in
from tests.markdown import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "tour.ipynb"


def script(name: str, *arguments: object) -> str:
    """Run an example as a user does; return what it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_is_labelled(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in ("scene-2.jpg", "scene-4.jpg"):
        shutil.copyfile(IMAGES / name, images / name)
    (images / "notes.txt").write_text("no image")
    printed = script("label_folder.py", images, out)
    assert "skipped: " in printed and "scene-4.jpg LabelResult(" in printed
    files = set(files_in(out))
    assert {"voc/scene-2.png", "voc/scene-4.png", "yolo/data.yaml"} <= files
    assert read_label(out / "voc" / "scene-4.png").any()


def test_boxes_become_masks(tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("class,x0,y0,x1,y1\nfish,5,165,195,330\ncar,145,85,410,215\n")
    printed = script("boxes_to_masks.py", IMAGES / "scene-2.jpg", boxes, tmp_path / "out")
    assert printed.splitlines()[0].startswith("fish: predicted IoU 0.")
    assert files_in(tmp_path / "out") == ["classes.txt", "label.png", "masks.json"]
    assert (tmp_path / "out" / "classes.txt").read_text() == "car\nfish\n"
    masks, label = (
        read_stored_masks(tmp_path / "out", "masks"),
        read_label(tmp_path / "out/label.png"),
    )
    assert len(masks) == 2 and masks.areas.min() > 1000
    assert label[250, 60] == 2 and set(np.unique(label)) == {0, 1, 2}


def test_own_masks_refine(tmp_path: Path) -> None:
    label = np.zeros((20, 30), np.uint8)
    label[5:12, 5:12] = 3
    mask = np.zeros((20, 30), bool)
    mask[4:13, 4:13] = True
    for name in ("a", "b"):
        write_label(tmp_path / "cams" / f"{name}.png", label)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "a.npy", np.array([mask, ~mask]))
    printed = script(
        "refine_with_own_masks.py", tmp_path / "cams", tmp_path / "masks", tmp_path / "out"
    )
    assert printed == "a: 5.3% of the pixels changed\nb: no masks\n"
    assert files_in(tmp_path / "out") == ["a.png"]
    assert np.array_equal(read_label(tmp_path / "out" / "a.png"), np.uint8(3) * mask)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first cell to the last, in a kernel of its own; results show as pictures."""
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert {"report.html", "labels/yolo/data.yaml"} <= set(files_in(tmp_path))


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and not cell["execution_count"] for cell in code)
