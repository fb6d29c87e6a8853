"""Labels of every format read back, as they were written or after a person corrected them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.formats import LABEL_FORMATS, LABEL_READERS, LabelReader, find_labels
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.labels import LabelMap

CLASSES = ("background", "cat", "dog")
LABEL = np.zeros((12, 16), np.uint8)
LABEL[2:8, 3:9] = 1
LABEL[4:6, 5:7] = 0
LABEL[6:11, 10:15] = 2

FORMATS = {
    "voc": "voc",
    "voc-devkit": "voc",
    "coco": "coco",
    "coco-rle": "coco",
    "coco-stuff": "coco",
    "labelme": "labelme",
    "yolo": "yolo",
}
"""Reader of each format that can be read back."""

LABELS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
    elements=st.sampled_from([0, 1, 1, 2, 255]),
)


def store(
    folder: Path, name: str, labels: Mapping[str, LabelMap], **given: Any
) -> tuple[Path, dict[str, Path]]:
    """Write labels in a format; return the folder and the images."""
    form = LABEL_FORMATS[name](folder / name, CLASSES, settings=FormatSettings(**given))
    images = {image_id: folder / "images" / f"{image_id}.png" for image_id in labels}
    for image_id, path in images.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", labels[image_id].shape[::-1]).save(path)
        form.write(image_id, path, labels[image_id])
    form.finish(images, labels.__getitem__)
    return form.folder, images


def open_labels(where: Path, classes: tuple[str, ...] | None = CLASSES) -> LabelReader:
    return LABEL_READERS[find_labels(where)](where, classes, {})


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_found_and_read_back(tmp_path: Path, name: str) -> None:
    labels = {"a": LABEL, "cats/b": LABEL[::-1].copy(), "c": LABEL * 0}
    folder, images = store(tmp_path, name, labels, tolerance=0, split=0.5)
    assert find_labels(folder) == FORMATS[name]
    reader = open_labels(folder)
    assert set(reader.files) == set(labels)
    for image_id, label in labels.items():
        assert np.array_equal(reader.read(image_id), label)
        found = reader.image(image_id)
        assert (found is None) == (name == "voc")
        assert found is None or found.stem == images[image_id].stem


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("voc")])
@settings(deadline=None, max_examples=40)
@given(label=LABELS)
def test_any_label_comes_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, label: NDArray[Any]
) -> None:
    if name == "labelme" and int(PIL.__version__.partition(".")[0]) < 12:
        pytest.skip("Pillow before 12 draws polygons of no width otherwise")
    folder, _ = store(tmp_path_factory.mktemp("any"), name, {"a": label}, tolerance=0)
    assert np.array_equal(open_labels(folder).read("a"), np.where(label == 255, 0, label))


@pytest.mark.parametrize("name", ["voc", "voc-devkit"])
@settings(deadline=None, max_examples=20)
@given(label=LABELS.filter(lambda label: ((label > 0) & (label < 255)).any()))
def test_label_pngs_keep_pixels_of_no_class(
    tmp_path_factory: pytest.TempPathFactory, name: str, label: NDArray[Any]
) -> None:
    folder, _ = store(tmp_path_factory.mktemp("png"), name, {"a": label})
    assert np.array_equal(open_labels(folder).read("a"), label)


@pytest.mark.parametrize(("name", "least"), [("coco", 1), ("yolo", 1), ("labelme", 0.9)])
def test_default_tolerances(tmp_path: Path, name: str, least: float) -> None:
    y, x = np.mgrid[:90, :120]
    label = ((y - 40) ** 2 + (x - 50) ** 2 < 33**2).astype(np.uint8)
    label[(y - 60) ** 2 + (x - 80) ** 2 < 25**2] = 2
    folder, _ = store(tmp_path, name, {"a": label})
    read = open_labels(folder).read("a")
    for value in (1, 2):
        both, either = (read == value) & (label == value), (read == value) | (label == value)
        assert both.sum() / either.sum() >= least


NAMED = ("voc-devkit", "coco", "coco-rle", "coco-stuff", "labelme", "yolo")


@pytest.mark.parametrize("name", NAMED)
def test_names_come_from_the_files(tmp_path: Path, name: str) -> None:
    folder, _ = store(tmp_path, name, {"a": LABEL}, tolerance=0)
    reader = open_labels(folder, None)
    assert reader.classes == CLASSES
    assert np.array_equal(reader.read("a"), LABEL)


@pytest.mark.parametrize("name", ["coco", "labelme"])
def test_names_decide_the_values(tmp_path: Path, name: str) -> None:
    folder, _ = store(tmp_path, name, {"a": LABEL}, tolerance=0)
    read = open_labels(folder, ("background", "dog", "bird", "cat")).read("a")
    assert np.array_equal(read, np.array([0, 3, 1], np.uint8)[LABEL])
    with pytest.raises(LabelError, match="unknown class 'dog', did you mean dogs"):
        open_labels(folder, ("background", "cat", "dogs")).read("a")


def corrected(folder: Path, change: Callable[[dict[str, Any]], None]) -> LabelMap:
    """Read a labelme file that was changed."""
    path = folder / "a.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return open_labels(folder).read("a")


def shape_of(kind: str | None, points: Any, label: str = "dog", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


@pytest.mark.parametrize(
    ("shape", "value", "pixels"),
    [
        (shape_of("polygon", [[0, 0], [2, 0], [2, 1], [0, 1]]), 2, 6),
        (shape_of(None, [[0, 0], [2, 0], [2, 1], [0, 1]], "cat"), 1, 6),
        (shape_of("rectangle", [[2, 1], [0, 0]]), 2, 6),
        # As X-AnyLabeling has it
        (shape_of("rectangle", [[0, 0], [2, 0], [2, 1], [0, 1]], score=0.5), 2, 6),
        (shape_of("rotation", [[0, 0], [2, 0], [2, 1], [0, 1]], direction=0), 2, 6),
        (shape_of("circle", [[1, 1], [1, 2]]), 2, 5),
        (shape_of("polygon", [[0, 0], [0, 9], [2, 9], [2, 0]], "_background_"), 0, 30),
        (shape_of("polygon", [[0, 0], [0, 9], [2, 9], [2, 0]], "__ignore__"), 255, 30),
    ],
    ids=str,
)
def test_what_a_person_draws_in_labelme(
    tmp_path: Path, shape: dict[str, Any], value: int, pixels: int
) -> None:
    folder, _ = store(tmp_path, "labelme", {"a": LABEL}, tolerance=0)
    read = corrected(folder, lambda content: content["shapes"].append(shape))
    assert np.array_equal(read[:, 3:], LABEL[:, 3:])
    assert np.count_nonzero(read[:, :3] == value) == (36 if value == 0 else pixels)


def test_a_deleted_shape_is_gone(tmp_path: Path) -> None:
    folder, _ = store(tmp_path, "labelme", {"a": LABEL}, tolerance=0)
    read = corrected(
        folder,
        lambda content: content.update(
            shapes=[each for each in content["shapes"] if each["label"] == "cat"]
        ),
    )
    assert np.array_equal(read, np.where(LABEL == 2, 0, LABEL))


def test_masks_of_labelme(tmp_path: Path) -> None:
    folder, _ = store(tmp_path, "labelme", {"a": LABEL}, tolerance=0, shapes="masks")
    assert '"shape_type": "mask"' in (folder / "a.json").read_text()
    assert np.array_equal(open_labels(folder).read("a"), LABEL)


BOX = [[0, 0], [2, 0], [2, 1]]
HOSTILE_LABELME: dict[str, tuple[Any, str]] = {
    "no list of shapes": ({"shapes": 1}, "not a labelme file"),
    "a list": ([], "not a labelme file"),
    "no size": ({"shapes": []}, "size is .None, None."),
    "huge": ({"shapes": [], "imageHeight": 10**9, "imageWidth": 10**9}, "size is"),
    "no label": ({"shapes": [shape_of("polygon", BOX, None)]}, "has the label None"),
    "other class": ({"shapes": [shape_of("polygon", BOX, "bird")]}, "unknown class 'bird'"),
    "no points": ({"shapes": [shape_of("polygon", None)]}, "a polygon is None"),
    "line": ({"shapes": [shape_of("line", BOX[:2])]}, "a shape of type 'line', which has no"),
    "type of list": ({"shapes": [shape_of([], BOX)]}, "a shape of type"),
    "one corner": ({"shapes": [shape_of("rectangle", BOX[:1])]}, "expected at least 2 points"),
    "no mask": ({"shapes": [shape_of("mask", BOX[:2])]}, "a mask is not readable"),
    "bad mask": ({"shapes": [shape_of("mask", BOX[:2], mask="####")]}, "a mask is not readable"),
    "mask of text": ({"shapes": [shape_of("mask", BOX[:2], mask="aGk=")]}, "a mask is not"),
}


@pytest.mark.parametrize("name", HOSTILE_LABELME)
def test_hostile_labelme_files(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE_LABELME[name]
    if isinstance(content, dict) and content.get("shapes"):
        content = {"imageHeight": 12, "imageWidth": 16, **content}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(LabelError, match=message) as caught:
        LABEL_READERS["labelme"](tmp_path, CLASSES, {}).read("a")
    assert str(caught.value).startswith(f"{tmp_path}/a.json: ")


def coco_of(annotation: Any, categories: Any = None) -> dict[str, Any]:
    known = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 9, **annotation}],
        "categories": known if categories is None else categories,
    }


def test_coco_of_another_program(tmp_path: Path) -> None:
    """Ids with gaps, run lengths that are not compressed, several polygons."""
    path = tmp_path / "any name.json"
    for segmentation in (
        {"size": [3, 4], "counts": [0, 6, 6]},
        [[0, 0, 2, 0, 2, 3, 0, 3]],
        [[0, 0, 1, 0, 1, 3, 0, 3], [1, 0, 2, 0, 2, 3, 1, 3.0]],
    ):
        path.write_text(json.dumps(coco_of({"segmentation": segmentation})))
        reader = open_labels(path, None)
        assert reader.classes == CLASSES
        assert reader.read("a").tolist() == [[2, 2, 0, 0]] * 3


HOSTILE_COCO: dict[str, tuple[Any, str]] = {
    "not COCO": ({}, "not COCO JSON"),
    "categories": (coco_of({}, [1]), "category 1, expected an id of its own and a name"),
    "ids of two kinds": (
        coco_of({}, [{"id": 1, "name": "cat"}, {"id": "a", "name": "dog"}]),
        "category .*, expected an id of its own",
    ),
    "no name": (coco_of({}, [{"id": 9, "name": None}]), "category .*, expected an id of its own"),
    "no category": (coco_of({"category_id": 1}), "the category_id 1, which no category has"),
    "category of a list": (coco_of({"category_id": [9]}), r"the category_id \[9\]"),
    "category of nothing": (coco_of({"category_id": None}), "the category_id None"),
    "no segmentation": (coco_of({}), "segmentation is not run lengths"),
    "short polygon": (coco_of({"segmentation": [[1, 2]]}), "a polygon is"),
    "polygon of text": (coco_of({"segmentation": ["abcdef"]}), "a polygon is"),
    "other size": (coco_of({"segmentation": {"size": [4, 4], "counts": [16]}}), "size is"),
}


@pytest.mark.parametrize("name", HOSTILE_COCO)
def test_hostile_coco_files(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE_COCO[name]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises((LabelError, SettingsError), match=message) as caught:
        LABEL_READERS["coco"](tmp_path / "a.json", None, {}).read("a")
    assert str(caught.value).startswith(f"{tmp_path}/a.json: ")


def test_several_coco_files(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("b.json", "a.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    with pytest.raises(LabelError, match=r"expected one file in annotations/, here are a\.json, b"):
        LABEL_READERS["coco"](tmp_path, None, {})


NAMES = {
    "numbered": 'names:\n  0: cat\n  1: "a \\"dog\\": yes"\n',
    "list": 'path: .\nnames:\n- cat\n- "a \\"dog\\": yes"\nnc: 2\n',
    "indented list": "names:\n  - cat # a cat\n  - 'a \"dog\": yes'\n\ntrain: images\n",
    "one line": "nc: 2\nnames: ['cat', 'a \"dog\": yes']\n",
    "table in one line": "names: {0: cat, 1: 'a \"dog\": yes'}\n",
}


@pytest.mark.parametrize("text", NAMES.values(), ids=NAMES)
def test_names_of_data_yaml(tmp_path: Path, text: str) -> None:
    folder, _ = store(tmp_path, "yolo", {"a": LABEL}, tolerance=0)
    (folder / "data.yaml").write_text(text)
    reader = open_labels(folder, None)
    assert reader.classes == ("background", "cat", 'a "dog": yes')
    assert np.array_equal(reader.read("a"), LABEL)


@pytest.mark.parametrize("text", ["", "names:\n", "names: 3\ntrain: a", 'names:\n - "a\n'])
def test_names_that_are_not_understood(tmp_path: Path, text: str) -> None:
    folder, _ = store(tmp_path, "yolo", {"a": LABEL})
    (folder / "data.yaml").write_text(text)
    if text.startswith("names: 3"):
        assert open_labels(folder, None).classes == ("background", "3")
        return
    with pytest.raises(LabelError, match="the names of the classes are not understood"):
        open_labels(folder, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.1", "a box, expected a polygon"),
        ("2 0 0 1 0 1 1", "class '2', expected 0 to 1"),
        ("-1 0 0 1 0 1 1", "class '-1', expected 0 to 1"),
        ("cat 0 0 1 0 1 1", "class 'cat', expected 0 to 1"),
        ("0 0 0 1", "a polygon is"),
        ("0 0 0 1 0 1 x", "a polygon is"),
        ("0 0 0 1 0 1 nan", "a polygon is"),
        ("0 0 0 1 0 1 1e300", "a polygon is"),
    ],
)
def test_hostile_yolo_lines(tmp_path: Path, line: str, message: str) -> None:
    folder, _ = store(tmp_path, "yolo", {"a": LABEL})
    path = folder / "labels" / "train" / "a.txt"
    path.write_text(f"\n{line}\n")
    with pytest.raises(LabelError, match=message) as caught:
        open_labels(folder).read("a")
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_yolo_labels_need_images_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0 0 1 0 1 0.5 0 0.5\n")
    with pytest.raises(SettingsError, match=r"neither data\.yaml nor classes\.txt"):
        open_labels(tmp_path, None)
    with pytest.raises(LabelError, match="no image of this name"):
        open_labels(tmp_path).read("a")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    read = LABEL_READERS["yolo"](tmp_path, CLASSES, {"a": tmp_path / "a.jpg"}).read("a")
    assert read.tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]


def test_a_label_map_of_other_colours_is_refused(tmp_path: Path) -> None:
    folder, _ = store(tmp_path, "voc-devkit", {"a": LABEL})
    path = folder / "VOCdevkit" / "VOC2012" / "labelmap.txt"
    path.write_text(path.read_text().replace("128,0,0", "1,2,3"))
    with pytest.raises(LabelError, match="the colours are not those of VOC's palette"):
        open_labels(folder)


@pytest.mark.parametrize("content", [[], ["notes.md"], ["a.json"]])
def test_folders_without_labels(tmp_path: Path, content: list[str]) -> None:
    for name in content:
        (tmp_path / name).write_text("{}")
    with pytest.raises(SettingsError, match="no labels here, expected a COCO file"):
        find_labels(tmp_path)
    for name in ("voc", "yolo", "labelme", "coco"):
        with pytest.raises(LabelError):
            LABEL_READERS[name](tmp_path, CLASSES, {}).read("a")
