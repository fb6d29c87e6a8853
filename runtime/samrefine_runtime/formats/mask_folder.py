"""Masks of one image as a folder of 0/255 PNG files, the layout of SAM's `amg.py` and SAM_WSSS.

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
from samrefine_runtime.formats.base import MaskFormat
from samrefine_runtime.image import ImageShape, strips_of
from samrefine_runtime.image_file import open_image
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
"""Columns of `metadata.csv`, those of `amg.py`."""

METADATA = "metadata.csv"
"""File that lists the masks of a folder."""

_DIGITS = 4
"""Least digits of a PNG's name."""

_SET = 255
"""Value of the mask's pixels in a PNG file."""

_MODES = ("1", "L", "P", "LA", "RGB", "RGBA")
"""Pillow's modes of 1 and 8 bits."""


class PngMasks(MaskFormat):
    """One folder `<id>/` of 0/255 PNG files per image, with `metadata.csv`."""

    def place(self, image_id: str) -> Path:
        """Return the folder of an image."""
        return self.folder / image_id

    def has(self, image_id: str) -> bool:
        """Return whether the folder exists."""
        return self.place(image_id).is_dir()

    def write(self, image_id: str, masks: Masks) -> None:
        """Write the folder. Raises OutputError."""
        write_mask_folder(self.place(image_id), masks)

    @staticmethod
    def save(path: Path, masks: Masks) -> None:
        """Write a folder of any name. Raises OutputError."""
        write_mask_folder(path, masks)

    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        """Read the folder. Raises MaskFileError."""
        return read_mask_folder(self.place(image_id), image_shape=image_shape)


def write_mask_folder(folder: str | Path, masks: Masks) -> None:
    """Write one PNG per mask and `metadata.csv`.

    In a folder that is there, these and the PNGs that its own `metadata.csv` lists are replaced;
    other files stay.

    Raises:
        OutputError: the folder cannot be written, or a file that is not listed is in the way.
    """
    with atomic_folder(folder, replaces=_listed(Path(folder))) as temporary:
        for index in range(len(masks)):
            pixels = masks.dense(index).astype(np.uint8) * _SET
            data = cv2.imencode(".png", pixels)[1].tobytes()
            (temporary / f"{index:0{_DIGITS}d}.png").write_bytes(data)
        (temporary / METADATA).write_bytes(_metadata(masks).encode())


def _listed(folder: Path) -> list[str]:
    """Return the files of the masks that `metadata.csv` lists, and it; none where it is foreign."""
    try:
        header, *rows = csv.reader((folder / METADATA).read_text().splitlines())
    except (OSError, ValueError, csv.Error):
        return []
    if tuple(header) != METADATA_HEADER:
        return []
    return [METADATA, *(f"{row[0].zfill(_DIGITS)}.png" for row in rows if row)]


def _metadata(masks: Masks) -> str:
    """Return the text of `metadata.csv`, one row per mask; unknown points are empty."""
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


def read_mask_folder(folder: str | Path, *, image_shape: ImageShape | None = None) -> Masks:
    """Read the masks of one image from the PNG files of a folder, in the order of their names.

    Pixels of value 255 (white) are the mask. Scores and points are not read. Where there is a
    `metadata.csv`, as many masks as it lists must be there; a folder without masks needs one, since
    an empty folder may be a copy that failed.

    Args:
        folder: the folder.
        image_shape: (H, W) the masks must have; needed for a folder without masks.

    Raises:
        MaskFileError: the folder or a mask is missing, or a PNG is damaged, not 0/255 or of
            another shape than the rest.
    """
    if not Path(folder).is_dir():
        raise MaskFileError(f"{folder}: no such folder of masks")
    paths, listed = _png_files(Path(folder)), _listed(Path(folder))
    if len(paths) < len(listed) - 1:
        raise MaskFileError(
            f"{folder}: {METADATA} lists {len(listed) - 1} masks, here are {len(paths)}"
        )
    runs = []
    for path in paths:
        mask = _read_mask(path)
        # The first mask sets the shape where none is given
        image_shape = image_shape or (mask.shape[0], mask.shape[1])
        if mask.shape != image_shape:
            raise MaskFileError(f"{path}: mask is {mask.shape} (H, W), expected {image_shape}")
        runs.append(rle.encode(mask))
    if not (paths or listed):
        raise MaskFileError(f"{folder}: no PNG masks here, and no {METADATA} that lists none")
    if image_shape is None:
        raise MaskFileError(f"{folder}: no PNG masks here, which would state the image's size")
    return Masks.from_runs(image_shape, runs)


def _png_files(folder: Path) -> list[Path]:
    """List the PNG files of a folder by name. Raises MaskFileError."""
    try:
        # Hidden files are skipped: macOS adds `._` files with the suffix of the original
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() == ".png" and path.name[0] != "."
        )
    except OSError as error:
        raise MaskFileError(f"{folder}: cannot be read ({error.strerror})") from error


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """Read one 0/255 PNG as (H, W) bool. Raises MaskFileError."""
    with open_image(path, MaskFileError, "0/255 mask") as image:
        if image.format != "PNG":
            raise MaskFileError(f"{path}: a {image.format} image, expected PNG")
        if image.mode not in _MODES:
            raise MaskFileError(f"{path}: image mode {image.mode}, expected 8 bits")
        mask = np.empty((image.height, image.width), bool)
        for rows, strip in strips_of(image):
            mask[rows] = _white(strip, path)
        return mask


def _white(image: Image.Image, path: Path) -> NDArray[np.bool_]:
    """Find the white pixels (H, W) of an image. Raises MaskFileError unless all others are black.

    Other values are refused: 0 and 1 would read as an empty mask, and where between black and
    white a soft mask ends is for its owner to say.
    """
    # pixels (H, W, 1) gray, or (H, W, 4) RGBA
    is_gray = image.mode in ("1", "L")
    pixels = np.atleast_3d(np.asarray(image.convert("L" if is_gray else "RGBA")))
    is_white: NDArray[np.bool_] = (pixels == _SET).all(axis=2)
    is_black = (pixels[..., :3] == 0).all(axis=2) & (pixels[..., -1] == (0 if is_gray else _SET))
    strange = ~(is_white | is_black)
    if strange.any():
        values = pixels[strange][0].tolist()
        found = values[0] if is_gray else f"RGBA {values}"
        raise MaskFileError(f"{path}: a pixel is {found}, expected 0 and 255 only")
    return is_white
