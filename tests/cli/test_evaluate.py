"""`samrefine evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samrefine_rt import __version__
from samrefine_runtime.evaluate import evaluate
from samrefine_runtime.labels import VOC_CLASSES, write_label
from tests.command import failed, files_in, run
from tests.samples import VOC, needs_voc


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and ground truth of two images, classes 0 to 2."""
    predictions, truth = tmp_path / "predictions", tmp_path / "truth"
    write_label(predictions / "a.png", np.array([[0, 1, 1, 2]], np.uint8))
    write_label(truth / "a.png", np.array([[0, 1, 2, 255]], np.uint8))
    write_label(predictions / "b.png", np.array([[1, 1]], np.uint8))
    write_label(truth / "b.png", np.array([[1, 0]], np.uint8))
    return predictions, truth


@needs_voc
def test_transcam_on_voc(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = run("evaluate", VOC / "transcam", VOC / "gt", "--json", file)
    assert result.exit_code == 0, result.output
    assert "mIoU 59.71 over 150 images" in result.stdout
    assert "person" in result.stdout and "precision" in result.stdout
    figures = json.loads(file.read_text())
    assert figures.pop("written_by") == f"samrefine {__version__}"
    assert tuple(figures.pop("classes")) == VOC_CLASSES
    expected = evaluate(VOC / "transcam", VOC / "gt")
    assert figures["miou"] == expected.miou
    assert round(100 * figures["miou"], 2) == 59.71
    assert figures["miou"] != round(figures["miou"], 4)
    assert len(figures["iou"]) == len(figures["precision"]) == len(figures["recall"]) == 21
    assert figures == expected.to_json()


def test_table(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--num-classes", 3)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows == [
        ["class", "IoU", "precision", "recall"],
        ["background", "50.00", "100.00", "50.00"],
        ["class", "1", "50.00", "50.00", "100.00"],
        ["class", "2", "0.00", "-", "0.00"],
        ["mIoU", "33.33", "over", "2", "images"],
    ]


def test_classes_that_occur_nowhere_are_left_out(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders)
    assert "mIoU 33.33" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["class", "1", "50.00", "50.00", "100.00"] in rows
    assert ["class", "8", "-", "-", "-"] in rows


def test_json_on_stdout_is_alone(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--num-classes", 3, "--json", "-")
    figures = json.loads(result.stdout)
    assert figures["miou"] == pytest.approx(1 / 3, abs=1e-15)
    assert figures["precision"] == [1.0, 0.5, None]
    assert figures["images"] == 2
    assert result.stderr == ""


def test_quiet(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("evaluate", *folders, "-q", "--json", tmp_path / "out.json")
    assert result.exit_code == 0
    assert result.output == ""
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 2


def test_missing_prediction(folders: tuple[Path, Path]) -> None:
    (folders[0] / "b.png").unlink()
    result = run("evaluate", *folders, "--num-classes", 3)
    assert result.exit_code == 1
    assert "Warning: no prediction for 1 ground-truth images: b" in result.stderr
    assert "over 1 images" in result.stdout


def test_images_that_cannot_be_compared(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.png").write_bytes(b"broken")
    result = run("evaluate", *folders, "--num-classes", 3)
    assert "a.png: not a readable label image" in failed(result, 1)
    assert "over 1 images" in result.stdout
    write_label(folders[0] / "a.png", np.zeros((4, 4), np.uint8))
    assert "prediction is (4, 4)" in failed(run("evaluate", *folders), 1)
    write_label(folders[0] / "a.png", np.full((1, 4), 21, np.uint8))
    assert "class 21, expected below 21" in failed(run("evaluate", *folders), 1)


def test_wrong_use(folders: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no PNG label maps" in failed(run("evaluate", folders[0], empty), 2)
    few = failed(run("evaluate", *folders, "--num-classes", 1), 2)
    assert "1 is not in the range 2<=x<=255" in few
    assert "does not exist" in failed(run("evaluate", tmp_path / "none", folders[1]), 2)
    assert "is a file" in failed(run("evaluate", folders[0] / "a.png", folders[1]), 2)


def test_json_that_cannot_be_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    result = run("evaluate", *folders, "--json", tmp_path / "file" / "out.json")
    assert "cannot be written" in failed(result, 1)
    assert "file" in files_in(tmp_path)


def rows_of(*arguments: object) -> list[str]:
    """The first column of the table."""
    result = run("evaluate", *arguments)
    assert result.exit_code == 0, result.output
    return [line[:14].strip() for line in result.stdout.splitlines()[1:-1]]


@pytest.mark.parametrize("form", ["list", "list with background", "file", "json"])
def test_names_of_classes_are_given(form: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    value: object = "cat, dog" if form == "list" else "background,cat,dog"
    if form == "file":
        value = tmp_path / "names"
        value.write_text("cat\ndog\n")
    if form == "json":
        value = tmp_path / "names.json"
        value.write_text('["cat", "dog"]')
    assert rows_of(*folders, "--classes", value) == ["background", "cat", "dog"]
    assert rows_of(*folders, "--classes", value, "--num-classes", 3) == ["background", "cat", "dog"]


def test_voc_by_its_name(folders: tuple[Path, Path]) -> None:
    assert tuple(rows_of(*folders, "--classes", "voc")) == VOC_CLASSES


def test_names_beside_the_labels(folders: tuple[Path, Path]) -> None:
    (folders[1] / "classes.txt").write_text("background\ncat\ndog\n")
    assert rows_of(*folders) == ["background", "cat", "dog"]
    assert rows_of(*folders, "--classes", "a,b") == ["background", "a", "b"]
    # Names that are too few are those of other labels
    assert rows_of(*folders, "--num-classes", 4)[1:] == ["class 1", "class 2", "class 3"]
    (folders[0] / "classes.txt").write_text("cat\ncow\n")
    assert "have classes of other names beside them" in failed(run("evaluate", *folders), 2)
    (folders[0] / "classes.txt").write_text("cat\ncat\n")
    assert "names 'cat' more than once" in failed(run("evaluate", *folders), 2)


def test_voc_names_only_for_images_called_as_vocs(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "a.png").rename(folder / "2007_000063.png")
        (folder / "b.png").unlink()
    assert tuple(rows_of(*folders)) == VOC_CLASSES
    assert rows_of(*folders, "--num-classes", 3) == ["background", "class 1", "class 2"]
    for folder in folders:
        write_label(folder / "b.png", np.zeros((1, 2), np.uint8))
    assert rows_of(*folders)[1] == "class 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "a,b", "--num-classes", 5], "--classes has 2 names, with background 3"),
        (["--classes", "a,a"], "classes names 'a' more than once"),
        (["--classes", ","], "classes names 0 classes"),
        (["--classes", "names.txt"], "cannot read the class list names.txt"),
        (["--classes", "no/names"], "cannot read the class list no/names"),
    ],
    ids=str,
)
def test_names_that_do_not_fit(
    options: list[object], message: str, folders: tuple[Path, Path]
) -> None:
    assert message in failed(run("evaluate", *folders, *options), 2)


def test_names_cannot_drive_a_terminal(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--classes", "\x1b[31mcat,dog")
    assert result.exit_code == 0 and "\x1b" not in result.output
