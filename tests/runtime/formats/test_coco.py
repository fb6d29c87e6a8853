"""COCO instances JSON, opened in pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime.errors import LabelError, MaskFileError, OutputError, SettingsError
from samrefine_runtime.formats import coco
from samrefine_runtime.formats.coco import MASK_CLASSES, CocoFile, open_coco
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.formats.records import read_masks
from samrefine_runtime.labels import VOC_CLASSES, read_label
from samrefine_runtime.masks.masks import Masks
from tests.samples import VOC, needs_voc, pycocotools

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GOLDEN = Path(__file__).parent / "golden"
CLASSES = ("background", "cat", "dog")
LABEL = np.array(
    [
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 1, 0, 2],
        [0, 1, 1, 1, 2, 0],
        [255, 0, 0, 0, 0, 1],
    ],
    np.uint8,
)
FORMS = ("polygons", "rle")


def write_golden(path: Path, form: str) -> Path:
    with open_coco(path, CLASSES) as writer:
        writer.add_label("a.jpg", LABEL, form=form)
        writer.add_label("empty.jpg", LABEL * 0, form=form)
        writer.add_label("sub/b.jpg", LABEL[:2], form=form)
    return path


def test_stuff_has_one_annotation_per_class(tmp_path: Path) -> None:
    content = json.loads(write_golden(tmp_path / "a.json", "stuff").read_text())
    found = [(each["image_id"], each["category_id"]) for each in content["annotations"]]
    assert found == [(1, 1), (1, 2), (3, 1), (3, 2)]


def test_least_area(tmp_path: Path) -> None:
    for form, count in (("rle", 1), ("stuff", 1)):
        with open_coco(tmp_path / "a.json", CLASSES) as writer:
            writer.add_label("a.jpg", LABEL, form=form, min_area=4)
        assert len(json.loads((tmp_path / "a.json").read_text())["annotations"]) == count


def load(path: Path) -> Any:
    coco = pycocotools("coco").COCO()
    coco.dataset = json.loads(path.read_text())
    coco.createIndex()
    return coco


@pytest.mark.parametrize("form", FORMS)
def test_golden_bytes(tmp_path: Path, form: Any) -> None:
    written = write_golden(tmp_path / "a.json", form)
    assert written.read_bytes() == (GOLDEN / f"coco_{form}.json").read_bytes()


@pytest.mark.parametrize("form", (*FORMS, "stuff"))
def test_pycocotools_reads_it_back(tmp_path: Path, form: Any) -> None:
    coco = pycocotools("coco").COCO(write_golden(tmp_path / "a.json", form))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    label = np.zeros_like(LABEL)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert annotation["area"] == mask.sum()
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        assert annotation["iscrowd"] == 0
        label[mask == 1] = annotation["category_id"]
    assert np.array_equal(label, np.where(LABEL == 255, 0, LABEL))
    assert coco.getAnnIds(imgIds=[2]) == []
    assert coco.loadImgs([3])[0] == {"id": 3, "file_name": "sub/b.jpg", "height": 2, "width": 6}


@needs_voc
@pytest.mark.parametrize("form", FORMS)
def test_real_labels_come_back(tmp_path: Path, form: Any) -> None:
    paths = sorted((VOC / "gt").glob("*.png"))[:12]
    with open_coco(tmp_path / "a.json", VOC_CLASSES) as writer:
        for path in paths:
            writer.add_label(path.name, read_label(path), form=form)
    coco = load(tmp_path / "a.json")
    for image_id, path in enumerate(paths, 1):
        expected = read_label(path)
        label = np.zeros_like(expected)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
            label[coco.annToMask(annotation) == 1] = annotation["category_id"]
        assert np.array_equal(label, np.where(expected == 255, 0, expected))


def test_masks_golden_bytes_and_round_trip(tmp_path: Path) -> None:
    masks = read_masks(GOLDEN / "masks.json")
    nothing = Masks.from_dense((4, 5), [np.zeros((4, 5), bool)])
    with open_coco(tmp_path / "a.json", MASK_CLASSES) as writer:
        writer.add_masks("a.jpg", masks)
        writer.add_masks("nothing.jpg", nothing)
    assert (tmp_path / "a.json").read_bytes() == (GOLDEN / "coco_masks.json").read_bytes()
    back = CocoFile(tmp_path / "a.json")
    assert back.read("a").to_records("coco_rle")[0] == masks.to_records("coco_rle")[0]
    assert np.array_equal(back.read("a").boxes, masks.boxes)
    assert back.read("nothing").areas.tolist() == [0]
    assert "a" in back
    assert "b" not in back


def test_pycocotools_agrees_on_boxes_and_areas_of_masks() -> None:
    coco = pycocotools("coco").COCO(GOLDEN / "coco_masks.json")
    for annotation in coco.loadAnns(coco.getAnnIds()):
        rows, columns = np.nonzero(coco.annToMask(annotation))
        assert annotation["area"] == len(rows)
        if len(rows):
            width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
            assert annotation["bbox"] == [columns.min(), rows.min(), width, height]


def test_failure_leaves_no_file_and_a_bad_label_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), open_coco(tmp_path / "a.json", CLASSES) as writer:
        writer.add_label("a.jpg", LABEL)
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with open_coco(tmp_path / "a.json", CLASSES) as writer:
        with pytest.raises(LabelError, match="class 9, expected below 3"):
            writer.add_label("bad.jpg", LABEL * 0 + 9)
        writer.add_label("a.jpg", LABEL, min_area=3)
    coco = load(tmp_path / "a.json")
    assert coco.getImgIds() == [1]
    assert [annotation["area"] for annotation in coco.loadAnns([1])] == [8]


def test_unknown_form_and_unwritable_path(tmp_path: Path) -> None:
    with (
        open_coco(tmp_path / "a.json", CLASSES) as writer,
        pytest.raises(SettingsError, match="form is 'boxes', expected one of"),
    ):
        writer.add_label("a.jpg", LABEL, form="boxes")
    with (
        pytest.raises(OutputError, match=r"a\.json"),
        open_coco(tmp_path / "a.json" / "b.json", CLASSES),
    ):
        pass


IMAGE = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}
ANNOTATION = {"image_id": 1, "segmentation": {"size": [2, 3], "counts": [6]}}
HOSTILE = {
    "list": ([], "not COCO JSON"),
    "no annotations": ({"images": []}, "not COCO JSON"),
    "images are numbers": ({"images": [1], "annotations": []}, "not COCO JSON"),
    "same name twice": (
        {"images": [IMAGE, IMAGE | {"file_name": "a.png"}], "annotations": []},
        "the images 'a.jpg' and 'a.png' have the same file name without suffix",
    ),
    "same name on Windows": (
        {
            "images": [
                IMAGE | {"file_name": "b/a.jpg"},
                IMAGE | {"id": 2, "file_name": "b\\a.png"},
            ],
            "annotations": [],
        },
        "have the same file name without suffix",
    ),
    "no name": ({"images": [IMAGE | {"file_name": None}], "annotations": []}, "file name None"),
    "same id twice": (
        {"images": [IMAGE, IMAGE | {"file_name": "b.jpg"}], "annotations": []},
        r"image 'b\.jpg' has the id 1, expected a number or text that no other image has",
    ),
    "no id": (
        {"images": [{"file_name": "a.jpg"}], "annotations": [{}]},
        r"image 'a\.jpg' has the id None",
    ),
    "id is a list": ({"images": [IMAGE | {"id": [1]}], "annotations": []}, r"has the id \[1\]"),
    "annotation of no image": (
        {"images": [IMAGE], "annotations": [ANNOTATION, ANNOTATION | {"id": 5, "image_id": 2}]},
        "annotation 5 has the image_id 2, which no entry of 'images' has",
    ),
    "annotation of a text": (
        {"images": [IMAGE], "annotations": [ANNOTATION | {"image_id": "1"}]},
        "annotation None has the image_id '1', which no",
    ),
    "annotation of a list": (
        {"images": [IMAGE], "annotations": [ANNOTATION | {"image_id": [1]}]},
        r"the image_id \[1\], which no",
    ),
    "many pixels": (
        {"images": [IMAGE | {"height": 10**9, "width": 10**9}], "annotations": []},
        "megapixels, the limit is 128",
    ),
    "no height": ({"images": [IMAGE | {"height": None}], "annotations": []}, r"a: size is \[None"),
    "polygon": (
        {"images": [IMAGE], "annotations": [ANNOTATION | {"segmentation": [[0, 0, 1, 1, 0, 1]]}]},
        "a: mask 0: segmentation is not run lengths",
    ),
    "other size": (
        {"images": [IMAGE | {"height": 3}], "annotations": [ANNOTATION]},
        r"a: mask 0: size is \[2, 3\], expected \[3, 3\]",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(MaskFileError, match=message) as caught:
        CocoFile(path).read("a")
    assert str(caught.value).startswith(f"{path}: ")


def test_a_damaged_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = tmp_path / "instances.json", []
    path.write_text("{")

    def read(*arguments: Any) -> Any:
        reads.append(arguments)
        return read_json(*arguments)

    monkeypatch.setattr(coco, "read_json", read)
    for _ in range(3):
        with pytest.raises(MaskFileError, match="not JSON"):
            coco.open_coco_file(path)
    assert len(reads) == 1


def test_image_that_is_not_there() -> None:
    with pytest.raises(MaskFileError, match="no image z"):
        CocoFile(GOLDEN / "coco_masks.json").read("z")
