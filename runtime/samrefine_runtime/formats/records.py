"""Masks of one image as JSON: SAM's records with COCO RLE, under a small header.

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
from samrefine_runtime.formats.base import MaskFormat
from samrefine_runtime.formats.jsonfile import read_json, write_json
from samrefine_runtime.image import ImageShape
from samrefine_runtime.inputs import check_pixels
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks

FORMAT = "samrefine-masks"
"""Value of `format` in the header."""

VERSION = 1
"""Version of the header that is written and read."""

_MAX_SIDE = (1 << 31) - 1
"""Largest height or width, pixels."""

_NUMBER_LIMIT = 1e30
"""Magnitude that numbers must stay below: they are then finite as float32 too. JSON such as 1e999
is parsed to infinity."""


class RecordMasks(MaskFormat):
    """`<id>.json` per image."""

    def place(self, image_id: str) -> Path:
        """Return the JSON file of an image."""
        return self.folder / f"{image_id}.json"

    def has(self, image_id: str) -> bool:
        """Return whether the file exists."""
        return self.place(image_id).is_file()

    def write(self, image_id: str, masks: Masks) -> None:
        """Write the file. Raises OutputError."""
        write_masks(self.place(image_id), masks)

    @staticmethod
    def save(path: Path, masks: Masks) -> None:
        """Write a file of any name. Raises OutputError."""
        write_masks(path, masks)

    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        """Read the file. Raises MaskFileError."""
        return read_masks(self.place(image_id), image_shape=image_shape)


def write_masks(path: str | Path, masks: Masks) -> None:
    """Write all masks of one image. Raises OutputError."""
    header = {"format": FORMAT, "version": VERSION, "size": list(masks.image_shape)}
    write_json(path, header | {"masks": json_records(masks)})


def json_records(masks: Masks) -> list[dict[str, Any]]:
    """Return `masks.to_records("coco_rle")` without NaN, which JSON lacks.

    Unknown points are None, the stability score of a mask without pixels is 0.
    """
    records = masks.to_records("coco_rle")
    for record in records:
        if not np.isfinite(record["point_coords"]).all():
            record["point_coords"] = None
        if np.isnan(record["stability_score"]):
            record["stability_score"] = 0.0
    return records


def read_masks(path: str | Path, *, image_shape: ImageShape | None = None) -> Masks:
    """Read the masks of one image from a JSON file.

    Three forms are read: files of `write_masks`; a plain list of SAM's records with compressed or
    uncompressed run lengths, as segment-anything's `amg.py` dumps; and SA-1B's annotation files.

    Args:
        path: JSON file.
        image_shape: (H, W) the masks must have; needed for an empty plain list, which has none.

    Raises:
        MaskFileError: the file cannot be read, or a mask in it is damaged or of another shape.
    """
    content = read_json(path, MaskFileError)
    try:
        own_shape, records = _unwrap(content)
        return masks_from_records(records, _agreed_shape(own_shape, image_shape, records))
    except MaskFileError as error:
        raise MaskFileError(f"{path}: {error}") from error


def masks_from_records(records: list[Any], image_shape: ImageShape) -> Masks:
    """Convert records with compressed or uncompressed run lengths of an image (H, W) to masks.

    Only `segmentation` is required; the rest is filled in as `Masks.from_runs` does.

    Raises:
        MaskFileError: a record is damaged or of another shape.
    """
    runs, columns = [], _Columns(image_shape)
    for index, record in enumerate(records):
        try:
            if not isinstance(record, dict):
                raise MaskFileError(f"a record is {type(record).__name__}, expected an object")
            runs.append(runs_from_segmentation(record.get("segmentation"), image_shape))
            columns.add(record)
        except MaskFileError as error:
            raise MaskFileError(f"mask {index}: {error}") from error
    return columns.masks(runs)


def runs_from_segmentation(segmentation: Any, image_shape: ImageShape) -> rle.Counts:
    """Read the run lengths (R,) uint32 of {"size": [H, W], "counts": text or list}.

    Raises:
        MaskFileError: not of this form, damaged, or of another shape.
    """
    if not isinstance(segmentation, dict):
        raise MaskFileError("segmentation is not run lengths ({'size': ..., 'counts': ...})")
    own_shape, counts = segmentation.get("size"), segmentation.get("counts")
    if check_image_shape(own_shape) != image_shape:
        raise MaskFileError(f"size is {short(own_shape)}, expected {list(image_shape)}")
    if isinstance(counts, str):
        runs = rle.from_coco_string(counts, image_shape)
    # Exact types: True is an int to isinstance
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = rle.check(counts, image_shape)
    else:
        raise MaskFileError("counts is neither a COCO RLE string nor a list of integers")
    return runs


def check_image_shape(value: Any) -> ImageShape:
    """Return the image shape (H, W) of a JSON value [H, W].

    Raises:
        MaskFileError: not two integers of at least 1, or more pixels than
            `inputs.MAX_MEGAPIXELS`, which run lengths of a few bytes can stand for.
    """
    is_pair = isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
    if not is_pair or min(value) < 1 or max(value) > _MAX_SIDE:
        raise MaskFileError(f"size is {short(value)}, expected [height, width]")
    try:
        check_pixels((value[0], value[1]))
    except ValueError as error:
        raise MaskFileError(f"size is {short(value)}: {error}") from error
    return value[0], value[1]


def _unwrap(content: Any) -> tuple[ImageShape | None, list[Any]]:
    """Return the image shape, None where the file states none, and the records of a file."""
    # A plain list, as amg.py dumps it
    if isinstance(content, list):
        return None, content
    if not isinstance(content, dict):
        raise MaskFileError(f"holds {type(content).__name__}, expected masks")
    # A file of write_masks, or of SA-1B
    if content.get("format") == FORMAT:
        if content.get("version") != VERSION:
            version = content.get("version")
            raise MaskFileError(f"version {short(version)} of {FORMAT}, this reads {VERSION}")
        image_shape, records = check_image_shape(content.get("size")), content.get("masks")
    elif isinstance(content.get("image"), dict) and "annotations" in content:
        image = content["image"]
        image_shape = check_image_shape([image.get("height"), image.get("width")])
        records = content["annotations"]
    else:
        raise MaskFileError(f"neither {FORMAT}, nor a list of SAM's records, nor SA-1B's form")
    if not isinstance(records, list):
        raise MaskFileError("masks is not a list")
    return image_shape, records


def _agreed_shape(
    own: ImageShape | None, expected: ImageShape | None, records: list[Any]
) -> ImageShape:
    """Return the shape by the file, else by its first record, else the expected one.

    Raises:
        MaskFileError: there is none, or it differs from the expected one.
    """
    if own is None and records:
        segmentation = records[0].get("segmentation") if isinstance(records[0], dict) else None
        if not isinstance(segmentation, dict):
            raise MaskFileError("mask 0: not a record with run lengths")
        own = check_image_shape(segmentation.get("size"))
    agreed = own or expected
    if agreed is None:
        raise MaskFileError("an empty list of masks does not state the image's size")
    if expected is not None and agreed != expected:
        raise MaskFileError(f"masks are {agreed} (H, W), expected {expected}")
    return agreed


class _Columns:
    """Gathers the boxes, scores, points and crops of records, one row per mask."""

    def __init__(self, image_shape: ImageShape) -> None:
        self.image_shape = image_shape
        self.boxes: list[tuple[int, ...] | None] = []
        self.scores: list[tuple[float, float]] = []
        self.points: list[tuple[float, ...]] = []
        self.crops: list[tuple[int, ...]] = []

    def add(self, record: dict[str, Any]) -> None:
        """Append the row of a record. Raises MaskFileError."""
        height, width = self.image_shape
        box = _box(record, "bbox", self.image_shape)
        # A box by COCO's convention ends one pixel after SAM's, so clip it to the last pixel
        last = (width - 1, height - 1) * 2
        self.boxes.append(None if box is None else tuple(map(min, box, last)))
        self.scores.append((_score(record, "predicted_iou"), _score(record, "stability_score")))
        self.points.append(_point(record))
        crop = _box(record, "crop_box", self.image_shape)
        self.crops.append((0, 0, width, height) if crop is None else crop)

    def masks(self, runs: list[rle.Counts]) -> Masks:
        """Build masks of the runs and the rows; boxes that are missing come from the runs."""
        bare = Masks.from_runs(self.image_shape, runs)
        boxes = [bare.boxes[i].tolist() if box is None else box for i, box in enumerate(self.boxes)]
        scores = np.array(self.scores, np.float32).reshape(-1, 2)
        return Masks(
            image_shape=self.image_shape,
            counts=bare.counts,
            offsets=bare.offsets,
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            predicted_iou=scores[:, 0].copy(),
            stability_score=scores[:, 1].copy(),
            point_coords=np.array(self.points, np.float64).reshape(-1, 2),
            crop_boxes=np.array(self.crops, np.int32).reshape(-1, 4),
        )


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a JSON value is a number, no boolean, that is finite as float32."""
    return type(value) in (int, float) and abs(value) < _NUMBER_LIMIT


def _score(record: dict[str, Any], key: str) -> float:
    """Return a score of a record, 1 where it is missing. Raises MaskFileError."""
    value = record.get(key, 1.0)
    if not is_number(value):
        raise MaskFileError(f"{key} is {short(value)}, expected a number")
    return float(value)


def _point(record: dict[str, Any]) -> tuple[float, float]:
    """Return the first point XY of a record, NaN where it has none. Raises MaskFileError."""
    points = record.get("point_coords")
    if points is None or points == []:
        return math.nan, math.nan
    first = points[0] if isinstance(points, list) else None
    if not isinstance(first, list) or len(first) != 2 or not all(map(is_number, first)):
        raise MaskFileError(f"point_coords is {short(points)}, expected [[x, y]]")
    return float(first[0]), float(first[1])


def _box(record: dict[str, Any], key: str, image_shape: ImageShape) -> tuple[int, ...] | None:
    """Return a record's XYWH box as XYXY, None where it has none. Raises MaskFileError."""
    box = record.get(key)
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise MaskFileError(f"{key} is {short(box)}, expected [x, y, width, height]")
    left, top, width, height = (round(value) for value in box)
    right, bottom = left + width, top + height
    if not (0 <= left <= right <= image_shape[1] and 0 <= top <= bottom <= image_shape[0]):
        raise MaskFileError(f"{key} {box} extends beyond the image")
    return left, top, right, bottom
