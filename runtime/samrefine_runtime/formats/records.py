"""Masks of one photo as JSON: SAM's records with COCO RLE, under a small header.

    {"format": "samrefine-masks", "version": 1, "size": [H, W], "masks": [record, ...]}

A record has the keys of SamAutomaticMaskGenerator; `point_coords` is null where unknown.
"""

from __future__ import annotations

import math
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeGuard

import numpy as np

from samrefine_runtime.errors import MaskFileError
from samrefine_runtime.formats.jsonfile import read_json, write_json
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks

FORMAT = "samrefine-masks"
VERSION = 1

Size = tuple[int, int]


def write_masks(path: str | Path, masks: Masks) -> None:
    """Write all masks of one photo. Raises OutputError."""
    header = {"format": FORMAT, "version": VERSION, "size": list(masks.size)}
    write_json(path, header | {"masks": json_records(masks)})


def json_records(masks: Masks) -> list[dict[str, Any]]:
    """`masks.to_records("coco_rle")` fit for strict JSON: null for unknown points, stability 0
    for a mask without a pixel."""
    records = masks.to_records("coco_rle")
    for record in records:
        if not np.isfinite(record["point_coords"]).all():
            record["point_coords"] = None
        if np.isnan(record["stability_score"]):
            record["stability_score"] = 0.0
    return records


def read_masks(path: str | Path, *, size: Size | None = None) -> Masks:
    """Masks of one photo from a JSON file.

    Read are: what `write_masks` writes; a plain list of SAM's records with compressed or
    uncompressed run lengths, as segment-anything's `amg.py` dumps; and SA-1B's annotation files.

    Args:
        size: (H, W) the masks must have; needed for an empty plain list, which has none itself.

    Raises:
        MaskFileError: the file cannot be read, or a mask in it is damaged or of another size.
    """
    content = read_json(path, MaskFileError)
    try:
        own_size, records = _unwrap(content)
        return masks_from_records(records, _agreed_size(own_size, size, records))
    except MaskFileError as error:
        raise MaskFileError(f"{path}: {error}") from error


def masks_from_records(records: list[Any], size: Size) -> Masks:
    """Masks from records with compressed or uncompressed run lengths of a photo (H, W).

    Only `segmentation` must be there; the rest is filled in as `Masks.from_runs` does.

    Raises:
        MaskFileError: a record is damaged or of another size.
    """
    runs, columns = [], _Columns(size)
    for index, record in enumerate(records):
        try:
            if not isinstance(record, dict):
                raise MaskFileError(f"a record is {type(record).__name__}, expected an object")
            runs.append(runs_from_segmentation(record.get("segmentation"), size))
            columns.add(record)
        except MaskFileError as error:
            raise MaskFileError(f"mask {index}: {error}") from error
    return columns.masks(runs)


def runs_from_segmentation(segmentation: Any, size: Size) -> rle.Counts:
    """Run lengths (R,) uint32 of {"size": [H, W], "counts": text or list}.

    Raises:
        MaskFileError: not of this form, damaged, or of another size.
    """
    if not isinstance(segmentation, dict):
        raise MaskFileError("segmentation is not run lengths ({'size': ..., 'counts': ...})")
    own_size, counts = segmentation.get("size"), segmentation.get("counts")
    if check_size(own_size) != size:
        raise MaskFileError(f"size is {short(own_size)}, expected {list(size)}")
    if isinstance(counts, str):
        runs = _guarded(rle.from_coco_string, counts, size)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = _guarded(rle.check, counts, size)
    else:
        raise MaskFileError("counts is neither a COCO RLE string nor a list of integers")
    return runs


def check_size(size: Any) -> Size:
    """(H, W) of a JSON value [H, W]. Raises MaskFileError unless both are at least 1 and the
    area fits 31 bits."""
    is_pair = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
    if not is_pair or min(size) < 1 or size[0] * size[1] >= 1 << 31:
        raise MaskFileError(f"size is {short(size)}, expected [height, width]")
    return size[0], size[1]


def _guarded(decode: Any, counts: Any, size: Size) -> rle.Counts:
    """Run lengths too large for 64 bits must not pass by wrapping around."""
    try:
        runs: rle.Counts = decode(counts, size)
    except OverflowError as error:
        raise MaskFileError("a run length is out of range") from error
    if int(runs.sum(dtype=np.uint64)) != size[0] * size[1]:
        raise MaskFileError("a run length is out of range")
    return runs


def _unwrap(content: Any) -> tuple[Size | None, list[Any]]:
    if isinstance(content, list):
        return None, content
    if not isinstance(content, dict):
        raise MaskFileError(f"holds {type(content).__name__}, expected masks")
    if content.get("format") == FORMAT:
        if content.get("version") != VERSION:
            version = content.get("version")
            raise MaskFileError(f"version {short(version)} of {FORMAT}, this reads {VERSION}")
        size, records = check_size(content.get("size")), content.get("masks")
    elif isinstance(content.get("image"), dict) and "annotations" in content:
        image = content["image"]
        size = check_size([image.get("height"), image.get("width")])
        records = content["annotations"]
    else:
        raise MaskFileError(f"neither {FORMAT}, nor a list of SAM's records, nor SA-1B's form")
    if not isinstance(records, list):
        raise MaskFileError("masks is not a list")
    return size, records


def _agreed_size(own: Size | None, expected: Size | None, records: list[Any]) -> Size:
    if own is None and records:
        segmentation = records[0].get("segmentation") if isinstance(records[0], dict) else None
        if not isinstance(segmentation, dict):
            raise MaskFileError("mask 0: not a record with run lengths")
        own = check_size(segmentation.get("size"))
    agreed = own or expected
    if agreed is None:
        raise MaskFileError("an empty list of masks does not tell the photo's size")
    if expected is not None and agreed != expected:
        raise MaskFileError(f"masks are {agreed} (H, W), expected {expected}")
    return agreed


class _Columns:
    """Gathers what records say beside their runs."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.boxes: list[tuple[int, ...] | None] = []
        self.scores: list[tuple[float, float]] = []
        self.points: list[tuple[float, ...]] = []
        self.crops: list[tuple[int, ...]] = []

    def add(self, record: dict[str, Any]) -> None:
        height, width = self.size
        box = _box(record, "bbox", self.size)
        last = (width - 1, height - 1) * 2
        self.boxes.append(None if box is None else tuple(map(min, box, last)))
        self.scores.append((_score(record, "predicted_iou"), _score(record, "stability_score")))
        self.points.append(_point(record))
        crop = _box(record, "crop_box", self.size)
        self.crops.append((0, 0, width, height) if crop is None else crop)

    def masks(self, runs: list[rle.Counts]) -> Masks:
        bare = Masks.from_runs(self.size, runs)
        boxes = [bare.boxes[i].tolist() if box is None else box for i, box in enumerate(self.boxes)]
        scores = np.array(self.scores, np.float32).reshape(-1, 2)
        return Masks(
            size=self.size,
            counts=bare.counts,
            offsets=bare.offsets,
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            predicted_iou=scores[:, 0].copy(),
            stability_score=scores[:, 1].copy(),
            point_coords=np.array(self.points, np.float64).reshape(-1, 2),
            crop_boxes=np.array(self.crops, np.int32).reshape(-1, 4),
        )


def _is_number(value: Any) -> TypeGuard[int | float]:
    return type(value) in (int, float) and abs(value) < 1e30


def _score(record: dict[str, Any], key: str) -> float:
    value = record.get(key, 1.0)
    if not _is_number(value):
        raise MaskFileError(f"{key} is {short(value)}, expected a number")
    return float(value)


def _point(record: dict[str, Any]) -> tuple[float, float]:
    points = record.get("point_coords")
    if points is None or points == []:
        return math.nan, math.nan
    first = points[0] if isinstance(points, list) else None
    if not isinstance(first, list) or len(first) != 2 or not all(map(_is_number, first)):
        raise MaskFileError(f"point_coords is {short(points)}, expected [[x, y]]")
    return float(first[0]), float(first[1])


def _box(record: dict[str, Any], key: str, size: Size) -> tuple[int, ...] | None:
    """XYXY of a record's XYWH, None where the record has none."""
    box = record.get(key)
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise MaskFileError(f"{key} is {short(box)}, expected [x, y, width, height]")
    left, top, width, height = (round(value) for value in box)
    right, bottom = left + width, top + height
    if not (0 <= left <= right <= size[1] and 0 <= top <= bottom <= size[0]):
        raise MaskFileError(f"{key} {box} leaves the photo")
    return left, top, right, bottom
