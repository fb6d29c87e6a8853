"""Masks as SAM's records in JSON files, sound and damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samrefine_runtime.errors import MaskFileError
from samrefine_runtime.formats.records import read_masks, write_masks
from samrefine_runtime.masks.masks import Masks
from tests.samples import pycocotools

GOLDEN = Path(__file__).parent / "golden"
RLE = {"size": [2, 3], "counts": [1, 2, 3]}


@st.composite
def mask_sets(draw: st.DrawFn) -> Masks:
    """Masks with a few pixels, scores, points known or not, crops."""
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    dense = draw(hnp.arrays(np.bool_, (draw(st.integers(0, 4)), *size)))
    masks = Masks.from_dense(size, dense)
    if draw(st.booleans()):
        return masks
    n = len(masks)
    scores = hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32))
    return Masks.from_runs(
        size,
        [masks.runs(i) for i in range(n)],
        predicted_iou=draw(scores),
        stability_score=draw(scores),
        point_coords=draw(hnp.arrays(np.float64, (n, 2), elements=st.floats(0, 12))),
        crop_boxes=np.tile(np.array([0, 0, 1, size[0]], np.int32), (n, 1)),
    )


def assert_equal(actual: Masks, expected: Masks) -> None:
    assert actual.image_shape == expected.image_shape
    for name in ("counts", "offsets", "boxes", "predicted_iou", "stability_score", "crop_boxes"):
        array = getattr(actual, name)
        assert np.array_equal(array, getattr(expected, name)), name
        assert array.dtype == getattr(expected, name).dtype
    assert np.array_equal(actual.point_coords, expected.point_coords, equal_nan=True)


def golden_masks() -> Masks:
    corner = np.zeros((4, 5), np.bool_)
    corner[1:3, 2:4] = True
    parts = Masks.from_dense((4, 5), [corner, np.eye(4, 5, dtype=np.bool_)])
    return Masks.from_runs(
        (4, 5),
        [parts.runs(0), parts.runs(1)],
        predicted_iou=np.array([0.5, 1], np.float32),
        stability_score=np.array([0.25, 0.75], np.float32),
        point_coords=np.array([[2.5, 1], [np.nan, np.nan]]),
        crop_boxes=np.array([[0, 0, 5, 4], [0, 0, 4, 4]], np.int32),
    )


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_golden_bytes(tmp_path: Path) -> None:
    write_masks(tmp_path / "a.json", golden_masks())
    assert (tmp_path / "a.json").read_bytes() == (GOLDEN / "masks.json").read_bytes()
    assert_equal(read_masks(GOLDEN / "masks.json"), golden_masks())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_run_lengths() -> None:
    records = json.loads((GOLDEN / "masks.json").read_text())["masks"]
    for index, record in enumerate(records):
        decoded = pycocotools("mask").decode(record["segmentation"])
        assert np.array_equal(decoded, golden_masks().dense(index))


@settings(deadline=None)
@given(mask_sets())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, masks: Masks) -> None:
    path = tmp_path_factory.getbasetemp() / "masks.json"
    write_masks(path, masks)
    assert_equal(read_masks(path, image_shape=masks.image_shape), masks)


@pytest.mark.parametrize("mode", ["coco_rle", "uncompressed_rle"])
def test_list_as_amg_dumps_it(tmp_path: Path, mode: str) -> None:
    masks = golden_masks().select([0])
    path = write(tmp_path / "a.json", masks.to_records(mode))
    assert_equal(read_masks(path), masks)


def test_annotation_file_of_sa1b(tmp_path: Path) -> None:
    masks = golden_masks().select([0])
    image = {"image_id": 1, "height": 4, "width": 5, "file_name": "sa_1.jpg"}
    content = {"image": image, "annotations": masks.to_records("coco_rle")}
    assert_equal(read_masks(write(tmp_path / "a.json", content)), masks)


def test_only_segmentation_must_be_there(tmp_path: Path) -> None:
    masks = read_masks(write(tmp_path / "a.json", [{"segmentation": RLE}]))
    assert masks.boxes.tolist() == [[0, 0, 1, 1]]
    assert np.isnan(masks.point_coords).all()


def test_empty_list_needs_a_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [])
    assert len(read_masks(path, image_shape=(4, 5))) == 0
    with pytest.raises(MaskFileError, match="does not state the image's size"):
        read_masks(path)


def test_size_is_checked() -> None:
    with pytest.raises(MaskFileError, match=r"masks are \(4, 5\) \(H, W\), expected \(5, 4\)"):
        read_masks(GOLDEN / "masks.json", image_shape=(5, 4))


def header(**changes: Any) -> dict[str, Any]:
    own = {"format": "samrefine-masks", "version": 1, "size": [2, 3], "masks": []}
    return own | changes


def record(**changes: Any) -> list[dict[str, Any]]:
    return [{"segmentation": RLE} | changes]


def counts(value: Any, size: tuple[int, int] = (2, 3)) -> list[dict[str, Any]]:
    return [{"segmentation": {"size": list(size), "counts": value}}]


HOSTILE = {
    "empty": ("", "not JSON"),
    "truncated": ('{"format": "samrefine', "not JSON"),
    "deep": ("[" * 200_000, "not JSON"),
    "binary": ("\x00\x01", "not JSON"),
    "NaN": ('[{"segmentation": NaN}]', "NaN is not a JSON number"),
    "number": ("7", "holds int"),
    "other object": ({"a": 1}, "neither samrefine-masks"),
    "new version": (header(version=2), "version 2 of samrefine-masks, this reads 1"),
    "no size": (header(size=None), "size is None"),
    "zero size": (header(size=[0, 3]), r"size is \[0, 3\]"),
    "huge size": (header(size=[1 << 16, 1 << 16]), "size is"),
    "float size": (header(size=[2.0, 3]), "size is"),
    "masks is no list": (header(masks={}), "masks is not a list"),
    "other size inside": (header(size=[3, 2], masks=record()), r"mask 0: size is \[2, 3\]"),
    "list of numbers": ([1], "mask 0: not a record"),
    "second is no object": ([*record(), None], "mask 1: a record is NoneType"),
    "no segmentation": ([*record(), {}], "mask 1: segmentation is not run lengths"),
    "binary mask": ([{"segmentation": [[True]]}], "mask 0: not a record with run lengths"),
    "no counts": (counts(None), "counts is neither"),
    "float counts": (counts([1.0, 5.0]), "counts is neither"),
    "bool counts": (counts([True, 5]), "counts is neither"),
    "short counts": (counts([1, 2]), "sum to 3, expected 6"),
    "negative counts": (counts([-1, 7]), "a run length is out of range, 0 to 6"),
    "counts that wrap around": (counts([1 << 63, 1 << 63, 6]), "out of range"),
    "counts that wrap in 64 bits": (counts([(1 << 63) - 1, (1 << 63) - 1, 8]), "out of range"),
    "count of 4000 digits": (counts([10**4000, 6]), "out of range"),
    "number of 5000 digits": ('[{"segmentation": 1' + "0" * 5000 + "}]", "not JSON"),
    "same key twice": ('[{"segmentation": 1, "segmentation": 2}]', "'segmentation' occurs twice"),
    "many pixels": (
        counts([10**9], (10**5, 10**4)),
        r"size is .*1000 megapixels, the limit is 128; SAMREFINE_MAX_MEGAPIXELS=1000",
    ),
    "more pixels than memory": (counts([10**18], (10**9, 10**9)), "megapixels, the limit is 128"),
    "endless side": (header(size=[10**4000, 1]), "size is"),
    "string ends early": (counts("n"), "mask 0: COCO RLE string ends"),
    "foreign characters": (counts("\u00e9"), "does not belong"),
    "huge number in string": (counts("o" * 40 + "0"), "mask 0: "),
    "area is another": (counts([1, 2, 3], (4, 5)), "sum to 6, expected 20"),
    "box outside": (record(bbox=[0, 0, 4, 1]), r"bbox \[0, 0, 4, 1\] extends beyond the image"),
    "box of text": (record(bbox="all"), "bbox is 'all'"),
    "box of infinity": (json.dumps(record(bbox=[0, 0, 7, 1])).replace("7", "1e999"), "bbox is"),
    "crop outside": (record(crop_box=[-1, 0, 1, 1]), "crop_box"),
    "score of text": (record(predicted_iou="high"), "predicted_iou is 'high'"),
    "score null": (record(stability_score=None), "stability_score is None"),
    "point of three": (record(point_coords=[[1, 2, 3]]), "point_coords is"),
    "points without end": (record(point_coords=[[1, 2, 3] * 9999]), "point_coords is"),
    "point not nested": (record(point_coords=[1, 2]), "point_coords is"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    with pytest.raises(MaskFileError, match=message) as caught:
        read_masks(write(tmp_path / "bad.json", content))
    assert str(caught.value).startswith(f"{tmp_path / 'bad.json'}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_missing_file_folder_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(MaskFileError, match=r"none\.json: no such file"):
        read_masks(tmp_path / "none.json")
    with pytest.raises(MaskFileError, match="a folder, expected a file"):
        read_masks(tmp_path)
    (tmp_path / "a.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(MaskFileError, match="not JSON"):
        read_masks(tmp_path / "a.json")
