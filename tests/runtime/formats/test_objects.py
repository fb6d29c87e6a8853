"""Objects: touching ones of a class are apart where masks tell them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.formats.annotated import annotated
from samrefine_runtime.formats.objects import find_objects, read_objects, write_objects
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import RefineSettings, refine, refine_and_choose

CLASSES = ("background", "cat", "dog")
LEFT, RIGHT, BOTH, HEAD = (np.zeros((10, 20), bool) for _ in range(4))
LEFT[2:8, 1:10], RIGHT[2:8, 10:19], BOTH[2:8, 1:19], HEAD[2:4, 1:5] = True, True, True, True


def found(
    masks: list[NDArray[np.bool_]], scores: list[float], pseudo: NDArray[np.bool_] = BOTH
) -> list[Region]:
    stored = Masks.from_runs(
        (10, 20),
        [Masks.from_dense((10, 20), [mask]).runs(0) for mask in masks],
        predicted_iou=np.array(scores, np.float32),
    )
    label, chosen = refine_and_choose(pseudo.astype(np.uint8), stored, RefineSettings())
    return find_objects(label, pseudo.astype(np.uint8), stored, chosen)


def pixels(objects: list[Region]) -> list[int]:
    return [each.area for each in objects]


def test_two_masks_side_by_side_are_two_objects() -> None:
    objects = found([LEFT, RIGHT], [0.9, 0.8])
    assert [each.bbox for each in objects] == [[10, 2, 9, 6], [1, 2, 9, 6]]
    assert [each.confidence for each in objects] == pytest.approx([0.8, 0.9])


def test_a_part_is_no_object_and_a_whole_holds_its_parts() -> None:
    assert pixels(found([LEFT, HEAD], [0.9, 0.95], LEFT)) == [54]
    assert pixels(found([BOTH, LEFT, RIGHT], [0.9, 0.9, 0.9])) == [108]


def test_pixels_of_no_mask_belong_to_the_nearest_object() -> None:
    pseudo = np.ones((10, 20), bool)
    objects = found([LEFT, RIGHT], [0.9, 0.9], pseudo)
    assert [each.bbox for each in objects] == [[0, 0, 10, 10], [10, 0, 10, 10]]
    # No mask is sure of these pixels
    assert [each.confidence for each in objects] == pytest.approx([0.9 * 54 / 100] * 2)


def test_a_class_that_the_pseudo_label_did_not_see_there_is_less_sure() -> None:
    """Both have to be sure: half of the object was not labelled before."""
    half = LEFT.copy()
    half[:5] = False
    assert found([LEFT], [0.9], LEFT)[0].confidence == pytest.approx(0.9)
    grown = found([LEFT | HEAD], [0.9], half | HEAD)
    assert grown[0].confidence == pytest.approx(0.9 * (27 + 8) / 54)


def test_labels_without_masks_are_of_no_confidence() -> None:
    objects = found([], [], BOTH)
    assert pixels(objects) == [108] and objects[0].confidence == 0


LABELS = hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255]))
STACKS = hnp.arrays(bool, st.tuples(st.integers(0, 6), st.just(9), st.just(11)))


@settings(deadline=None)
@given(LABELS, STACKS, st.sampled_from(["max_iou_imp2", "max_iou", "argmax"]))
def test_objects_part_the_label(
    pseudo: NDArray[Any], stack: NDArray[np.bool_], method: str
) -> None:
    masks, given_settings = Masks.from_dense((9, 11), stack), RefineSettings(method=method)
    label, chosen = refine_and_choose(pseudo, masks, given_settings)
    assert np.array_equal(label, refine(pseudo, masks, given_settings))
    assert set(chosen.tolist()) <= {0, 1, 2}
    objects = find_objects(label, pseudo, masks, chosen)
    rebuilt = np.zeros_like(label)
    for each in objects:
        full = each.paste(label.shape)
        assert (rebuilt[full] == 0).all() and each.area > 0
        rebuilt[full] = each.class_id
    assert np.array_equal(rebuilt, label)
    confidences = [each.confidence or 0.0 for each in objects]
    assert confidences == sorted(confidences) and all(0 <= value <= 1 for value in confidences)
    # Regions have the mean of their objects
    for region in annotated(label, 3, objects=objects):
        values = [
            each.confidence or 0.0
            for each in objects
            if (each.paste(label.shape) & region.paste(label.shape)).any()
        ]
        assert min(values) - 1e-6 <= region.confidence <= max(values) + 1e-6


@pytest.mark.parametrize("name", ["coco", "coco-rle", "labelme", "yolo", "label-studio"])
def test_formats_write_objects_apart(tmp_path: Path, name: str) -> None:
    objects = found([LEFT, RIGHT], [0.9, 0.8])
    image = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(image)
    label, counts = BOTH.astype(np.uint8), {}
    for value in ("regions", "masks"):
        form = LABEL_FORMATS[name](
            tmp_path / value,
            CLASSES,
            settings=FormatSettings(objects=value),
            read_objects=lambda image_id: objects,
        )
        form.write("a", image, label)
        form.finish({"a": image}, lambda image_id: label)
        text = "".join(
            "\n" + path.read_text()
            for path in form.folder.rglob("*")
            if path.suffix in (".json", ".txt")
        )
        counts[value] = text.count("\n0 ") if name == "yolo" else text.count('"score": 0.')
        scores = {"regions": ["0.85"], "masks": ["0.8", "0.9"]}[value]
        assert name == "yolo" or all(f'"score": {score}' in text for score in scores)
    extra = 1 if name == "label-studio" else 0  # the score of the whole prediction
    assert counts == {"regions": 1 + extra, "masks": 2 + extra}


def test_objects_are_stored(tmp_path: Path) -> None:
    objects = found([LEFT, RIGHT], [0.9, 0.8])
    write_objects(tmp_path / "a.json", objects, (10, 20))
    read = read_objects(tmp_path / "a.json")
    assert [(each.class_id, each.bbox, each.confidence) for each in read] == [
        (each.class_id, each.bbox, each.confidence) for each in objects
    ]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(read, objects, strict=True))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"format": "samrefine-objects", "version": 2},
        {"format": "samrefine-objects", "version": 1, "size": [1, 1], "objects": [{}]},
        {"format": "samrefine-objects", "version": 1, "size": [0, 1], "objects": []},
    ],
    ids=str,
)
def test_damaged_files(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(LabelError, match=r"a\.json: not a file of samrefine-objects 1"):
        read_objects(tmp_path / "a.json")
