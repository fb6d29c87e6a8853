"""`samrefine convert`: labels to other formats, and corrected files back to label maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.labels import read_label, write_label
from tests.command import failed, files_in, run

LABEL = np.zeros((12, 16), np.uint8)
LABEL[2:8, 3:9] = 1
LABEL[4:6, 5:7] = 0
LABEL[6:11, 10:15] = 2
WRITTEN_ONLY = ("label-studio", "cvat")
LABELS = {"a": LABEL, "cats/b": LABEL[::-1].copy()}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    for name, label in LABELS.items():
        write_label(tmp_path / "labels" / f"{name}.png", label)
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path / "labels"


def converted(labels: Path, to: str, *more: object, out: str = "out") -> Path:
    folder = labels.parent / out
    arguments = ["--images", labels.parent / "images", "--classes", "cat,dog", *more]
    result = run("convert", labels, "--to", to, "--out", folder, *arguments)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("form", [name for name in LABEL_FORMATS if name not in WRITTEN_ONLY])
def test_there_and_back(labels: Path, form: str) -> None:
    out = converted(labels, form, "--tolerance", 0)
    assert (out / "classes.txt").read_text() == "background\ncat\ndog\n"
    back = labels.parent / "back"
    result = run("convert", out / form, "--to", "voc", "--out", back)
    assert result.exit_code == 0, result.output
    for name, label in LABELS.items():
        assert np.array_equal(read_label(back / "voc" / f"{name}.png"), label)
    # The names came along
    assert (back / "classes.txt").read_text() == "background\ncat\ndog\n"


def test_a_correction_comes_back_as_a_label_map(labels: Path) -> None:
    """The way of a person: an output folder to labelme, one shape corrected, and back."""
    first = converted(labels, "voc,labelme", "--tolerance", 0)
    path = first / "labelme" / "a.json"
    content = json.loads(path.read_text())
    content["shapes"].append(
        {"label": "dog", "points": [[0, 0], [2, 1]], "shape_type": "rectangle", "flags": {}}
    )
    path.write_text(json.dumps(content))
    back = labels.parent / "back"
    assert run("convert", first / "labelme", "--to", "voc", "--out", back).exit_code == 0
    expected = LABEL.copy()
    expected[:2, :3] = 2
    assert np.array_equal(read_label(back / "voc" / "a.png"), expected)


def test_an_output_folder_is_read_by_its_label_maps(labels: Path) -> None:
    first = converted(labels, "voc,labelme,coco")
    second = converted(first, "yolo", out="second")
    assert "yolo/labels/train/a.txt" in files_in(second)


def test_what_is_there_is_not_made_again(labels: Path) -> None:
    out = converted(labels, "labelme,yolo")
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    arguments = ["convert", labels, "--out", out, "--images", labels.parent / "images"]
    again = run(*arguments, "--to", "labelme,yolo", "--classes", "cat,dog")
    assert "2 skipped" in again.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in files_in(out)} == before
    # Other names are another run
    message = failed(run(*arguments, "--to", "labelme,yolo", "--classes", "cat,cow"), 2)
    assert 'classes ["cat", "dog"], now ["cat", "cow"]' in message
    # A label that changed is made again
    write_label(labels / "a.png", np.where(LABEL == 2, 0, LABEL).astype(np.uint8))
    changed = run(*arguments, "--to", "labelme,yolo", "--classes", "cat,dog")
    assert "1 done, 1 skipped" in changed.stderr
    shapes = json.loads((out / "labelme" / "a.json").read_text())["shapes"]
    assert {each["label"] for each in shapes} == {"cat"}


def test_a_foreign_file_is_never_replaced(labels: Path) -> None:
    path = labels.parent / "out" / "yolo" / "data.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    arguments = ["--images", labels.parent / "images", "--out", path.parent.parent]
    result = run("convert", labels, "--to", "yolo", *arguments)
    assert f"{path} is in the way" in failed(result, 1)
    assert path.read_text() == "mine"


def test_one_broken_label_does_not_stop_the_others(labels: Path) -> None:
    (labels / "a.png").write_bytes(b"broken")
    Image.new("RGB", (3, 3)).save(labels.parent / "images" / "cats" / "b.jpg")
    write_label(labels / "c.png", LABEL)
    Image.new("RGB", (16, 12)).save(labels.parent / "images" / "c.jpg")
    out = labels.parent / "out"
    arguments = ["--to", "coco", "--out", out, "--images", labels.parent / "images"]
    result = run("convert", labels, *arguments)
    assert result.exit_code == 1 and "1 done, 2 failed" in result.stderr
    assert "label is 16 x 12 pixels, its image" in result.stderr
    content = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["c.jpg"]


def test_images_that_are_needed(labels: Path) -> None:
    out = ["--out", labels.parent / "out"]
    assert run("convert", labels, "--to", "voc", *out).exit_code == 0
    message = failed(run("convert", labels, "--to", "labelme,voc", *out, "--overwrite"), 2)
    assert message == (
        "labelme needs the images, and the labels name none that is there: give --images"
    )
    (labels.parent / "images" / "a.jpg").unlink()
    arguments = ["--images", labels.parent / "images", "--overwrite"]
    result = run("convert", labels, "--to", "labelme", *out, *arguments)
    assert result.exit_code == 1 and "no image of a, which labelme needs" in result.stderr


def test_a_damaged_whole_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    arguments = ["--to", "voc", "--out", tmp_path / "out"]
    assert "not JSON" in failed(run("convert", tmp_path / "a.json", *arguments), 2)
    assert "no labels here" in failed(run("convert", tmp_path, *arguments), 2)
    message = failed(run("convert", tmp_path, "--from", "voc", *arguments), 2)
    assert "no label PNGs here" in message
    assert not (tmp_path / "out").exists()
