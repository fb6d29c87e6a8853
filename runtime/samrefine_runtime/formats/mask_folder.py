"""Masks of one photo as a folder of 0/255 PNG files, the layout of SAM's `amg.py` and SAM_WSSS.

masks/2007_000063/0000.png, 0001.png, ..., metadata.csv
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.atomic import atomic_folder
from samrefine_runtime.errors import MaskFileError
from samrefine_runtime.formats.coco import FILE_NAME, open_coco_masks
from samrefine_runtime.formats.records import Size, read_masks
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks

METADATA_HEADER = (
    "id",
    "area",
    "bbox_x0",
    "bbox_y0",
    "bbox_w",
    "bbox_h",
    "point_input_x",
    "point_input_y",
    "predicted_iou",
    "stability_score",
    "crop_box_x0",
    "crop_box_y0",
    "crop_box_w",
    "crop_box_h",
)


def write_mask_folder(folder: str | Path, masks: Masks) -> None:
    """Write one PNG a mask and `metadata.csv`; a folder already there is replaced whole.

    Raises:
        OutputError: the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        for index in range(len(masks)):
            pixels = masks.dense(index).astype(np.uint8) * 255
            data = cv2.imencode(".png", pixels)[1].tobytes()
            (temporary / f"{index:04d}.png").write_bytes(data)
        (temporary / "metadata.csv").write_bytes(_metadata(masks).encode())


def _metadata(masks: Masks) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(METADATA_HEADER)
    for index, record in enumerate(masks.to_records("uncompressed_rle")):
        point = ["" if math.isnan(value) else value for value in record["point_coords"][0]]
        scores = [record["predicted_iou"], record["stability_score"]]
        writer.writerow(
            [index, record["area"], *record["bbox"], *point, *scores, *record["crop_box"]]
        )
    return text.getvalue()


def read_mask_folder(folder: str | Path, *, size: Size | None = None) -> Masks:
    """Masks of one photo from the `*.png` files of a folder, in the order of their names.

    Pixels of value 255 (white) are the mask. Scores and points are not read.

    Args:
        size: (H, W) the masks must have; needed for a folder without masks.

    Raises:
        MaskFileError: the folder is missing, or a PNG is unreadable, not 0/255 or of another
            size than the rest.
    """
    if not Path(folder).is_dir():
        raise MaskFileError(f"{folder}: no such folder of masks")
    runs = []
    for path in sorted(path for path in Path(folder).glob("*.png") if path.name[0] != "."):
        mask = _read_mask(path)
        size = size or (mask.shape[0], mask.shape[1])
        if mask.shape != size:
            raise MaskFileError(f"{path}: mask is {mask.shape} (H, W), expected {size}")
        runs.append(rle.encode(mask))
    if size is None:
        raise MaskFileError(f"{folder}: no PNG masks here")
    return Masks.from_runs(size, runs)


def _read_mask(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA"):
                raise MaskFileError(f"image mode {image.mode}")
            pixels = np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise MaskFileError(f"{path}: not a readable 0/255 mask ({error})") from error
    mask: NDArray[np.bool_] = (pixels == 255).reshape(*pixels.shape[:2], -1).all(axis=2)
    if not mask.any() and pixels.any():
        raise MaskFileError(f"{path}: values up to {pixels.max()} but no 255, expected 0 and 255")
    return mask


def read_masks_for(folder: str | Path, image_id: str, *, size: Size | None = None) -> Masks:
    """Masks of the photo `image_id`: from `<id>.json`, else the folder `<id>/` of 0/255 PNG
    files, else `instances.json`, the first that exists.

    Args:
        size: (H, W) the masks must have.

    Raises:
        MaskFileError: none of these exists, or the one found cannot be read.
    """
    root = Path(folder)
    records, pngs, coco = root / f"{image_id}.json", root / image_id, root / FILE_NAME
    if records.is_file():
        return read_masks(records, size=size)
    if pngs.is_dir():
        return read_mask_folder(pngs, size=size)
    if coco.is_file() and image_id in open_coco_masks(coco):
        return open_coco_masks(coco).read(image_id, size=size)
    raise MaskFileError(
        f"{root}: no masks of {image_id} ({records.name}, {image_id}/*.png or {FILE_NAME})"
    )
