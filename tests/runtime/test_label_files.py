"""Labels of many images into one folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.class_names import read_classes
from samrefine_runtime.errors import LabelError, OutputError, RunError, SettingsError
from samrefine_runtime.label_files import read_labels, write_labels
from samrefine_runtime.labels import encode_label, read_label, write_label
from tests.command import failed, files_in, run, write_image

CLASSES = ["cat", "dog"]
LABEL = np.zeros((40, 56), np.uint8)
LABEL[6:20, 6:20] = 2


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    names = ("images/a.jpg", "images/b.png", "images/c.jpg")
    return [write_image(tmp_path / name, image_shape=(40, 56)) for name in names]


COCO = "coco/annotations/instances_default.json"


def coco_names(folder: Path) -> list[str]:
    content = json.loads((folder / COCO).read_text())
    return [image["file_name"] for image in content["images"]]


def test_one_folder_per_format(images: list[Path], tmp_path: Path) -> None:
    write_label(tmp_path / "label.png", LABEL)
    labels = [(str(images[0]), LABEL), (images[1], tmp_path / "label.png")]
    write_labels(tmp_path / "out", iter(labels), CLASSES, ["yolo", "coco"])
    written = set(files_in(tmp_path / "out"))
    assert {
        "classes.txt",
        "voc/a.png",
        "voc/b.png",
        "coco/annotations/instances_default.json",
    } < written
    assert (tmp_path / "out/voc/a.png").read_bytes() == encode_label(LABEL)
    assert coco_names(tmp_path / "out") == ["a.jpg", "b.png"]


def test_settings_of_formats(images: list[Path], tmp_path: Path) -> None:
    settings = {"dataset_images": "none", "split": 0}
    write_labels(tmp_path / "out", [(images[0], LABEL)], CLASSES, ["yolo"], settings)
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_classes_of_a_file(images: list[Path], tmp_path: Path) -> None:
    """Those that an earlier call wrote, too."""
    write_labels(tmp_path / "a", [(images[0], LABEL)], CLASSES)
    write_labels(tmp_path / "b", [(images[0], LABEL)], tmp_path / "a" / "classes.txt")
    assert read_classes(tmp_path / "b" / "classes.txt") == tuple(CLASSES)


def test_later_labels_come_beside_earlier_ones(images: list[Path], tmp_path: Path) -> None:
    a, b, c = images
    write_labels(tmp_path / "out", [(a, LABEL), (b, LABEL)], CLASSES, ["coco"])
    write_labels(tmp_path / "out", [(b, LABEL // 2), (c, LABEL)], CLASSES, ["coco"])
    assert coco_names(tmp_path / "out") == ["a.jpg", "b.png", "c.jpg"]
    assert np.array_equal(read_label(tmp_path / "out" / "voc" / "b.png"), LABEL // 2)


def test_files_of_others_stay(tmp_path: Path) -> None:
    mine = tmp_path / "voc" / "a.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError, match="in the way and was not written by this package"):
        write_labels(tmp_path, [("a.jpg", LABEL)], CLASSES)
    assert mine.read_bytes() == b"mine"


def test_labels_of_a_failed_call_are_whole(images: list[Path], tmp_path: Path) -> None:
    """Those before the one that cannot be written are there."""
    labels = [(images[0], LABEL // 2), (images[1], LABEL)]
    with pytest.raises(LabelError, match="2"):
        write_labels(tmp_path / "out", labels, ["cat"], ["labelme"])
    assert files_in(tmp_path / "out") == ["labelme/a.json", "voc/a.png"]


def test_folders_of_commands_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "a", [("a.jpg", LABEL)], CLASSES)
    write_label(tmp_path / "cams" / "a.png", LABEL)
    (tmp_path / "masks" / "a").mkdir(parents=True)
    arguments = ["refine", "--pseudo-labels", tmp_path / "cams", "--masks", tmp_path / "masks"]
    assert "`samrefine write_labels` wrote" in failed(run(*arguments, "--out", tmp_path / "a"), 2)
    run(*arguments, "--out", tmp_path / "b")
    with pytest.raises(RunError, match="holds what `samrefine refine` wrote"):
        write_labels(tmp_path / "b", [("a.jpg", LABEL)], CLASSES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("a/x.jpg", LABEL), ("b/x.png", LABEL)], "labels has a/x.jpg and b/x.png, expected"),
        ([("a.jpg", LABEL), ("a.jpg", LABEL)], "labels has a.jpg and a.jpg, expected"),
        ([LABEL], r"labels has \(40, 56\) uint8, expected \(file of the image, label\)"),
    ],
)
def test_images_are_told_apart(tmp_path: Path, labels: list, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_labels(tmp_path, labels, CLASSES)


def test_an_unknown_format_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"formats is 'yol', expected .*, did you mean yolo"):
        write_labels(tmp_path / "out", [("a.jpg", LABEL)], CLASSES, ["voc", "yol"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["voc", "voc-devkit", "coco-rle", "labelme", "yolo"])
def test_what_is_written_is_read(images: list[Path], tmp_path: Path, name: str) -> None:
    labels = {path.stem: np.roll(LABEL, 3 * at, axis=1) for at, path in enumerate(images)}
    pairs = [(path, labels[path.stem]) for path in images]
    write_labels(tmp_path / "out", pairs, CLASSES, [name], {"tolerance": 0})
    found = read_labels(tmp_path / "out" / name, CLASSES)
    assert sorted(found) == ["a", "b", "c"] and len(found) == 3 and found.classes == tuple(CLASSES)
    for each, label in labels.items():
        # YOLO's numbers have six digits
        assert np.mean(found[each] != label) <= (0.01 if name == "yolo" else 0)
    assert repr(found) == "StoredLabels(3 labels, classes=['cat', 'dog'])"


def test_a_label_that_is_not_there(images: list[Path], tmp_path: Path) -> None:
    write_labels(tmp_path, [(images[0], LABEL)], CLASSES)
    found = read_labels(tmp_path / "voc")
    assert "a" in found and "z" not in found and found.get("z") is None
    with pytest.raises(KeyError):
        found["z"]
    with pytest.raises(SettingsError, match="no labels here"):
        read_labels(tmp_path / ".samrefine")
