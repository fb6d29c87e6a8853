"""The tree of VOC's development kit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.formats.voc_devkit import VocDevkitLabels

CLASSES = ("background", "cat", "dog")
LABEL = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)


def write(folder: Path, label: np.ndarray, split: float = 0.5) -> Path:
    images = {name: folder / f"{name}.jpg" for name in ("a", "b", "c", "d")}
    form = VocDevkitLabels(folder / "out", CLASSES, settings=FormatSettings(split=split))
    for path in images.values():
        Image.new("RGB", label.shape[::-1]).save(path)
        form.write(path.stem, path, label)
    form.finish(images, lambda name: label)
    assert np.array_equal(form.read("a"), label)
    return folder / "out" / "VOCdevkit" / "VOC2012"


def test_tree(tmp_path: Path) -> None:
    tree = write(tmp_path, LABEL)
    lists = {path.stem: path.read_text() for path in (tree / "ImageSets/Segmentation").iterdir()}
    assert lists == {"train": "a\n", "val": "b\nc\nd\n", "trainval": "a\nb\nc\nd\n"}
    assert sorted(path.name for path in (tree / "JPEGImages").iterdir()) == [
        f"{name}.jpg" for name in "abcd"
    ]


@pytest.mark.parametrize(
    ("label", "void"), [(LABEL, b"ignored:224,224,192::\n"), (LABEL % 255, b"")]
)
def test_label_map_names_what_is_there(tmp_path: Path, label: np.ndarray, void: bytes) -> None:
    assert (write(tmp_path, label) / "labelmap.txt").read_bytes() == (
        b"# label:color_rgb:parts:actions\n"
        b"background:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n" + void
    )


@pytest.mark.parametrize("name", ["a:b", "#a", "a\nb"])
def test_names_that_the_label_map_cannot_hold(tmp_path: Path, name: str) -> None:
    form = VocDevkitLabels(tmp_path, ("background", name))
    with pytest.raises(LabelError, match="class name"):
        form.finish({}, lambda image_id: LABEL)


def test_a_class_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="label has class 3, expected below 3"):
        VocDevkitLabels(tmp_path, CLASSES).write("a", tmp_path / "a.jpg", np.uint8([[3]]))
