"""What data sets of images and labels have in common: their images, and what is for validation."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.errors import ImageError, LabelError
from samrefine_runtime.image import read_image
from samrefine_runtime.image_file import open_image
from samrefine_runtime.inputs import check_file

TRAIN, VAL = "train", "val"
"""Names of the parts of a data set."""

JPEG_QUALITY = 95
"""Quality of images that had to be encoded anew."""

_ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright."""


def part_of(image_id: str, val_fraction: float) -> str:
    """Return TRAIN or VAL for an image, by its id alone.

    It stays in its part when images are added, and moves once at most when the fraction grows.

    Args:
        image_id: see `names.image_id`.
        val_fraction: fraction of the images for validation, 0 to 1.
    """
    digest = hashlib.sha256(image_id.encode(errors="surrogateescape")).digest()
    # position: evenly distributed from 0 to 1, 1 excluded
    position = int.from_bytes(digest[:6], "big") / (1 << 48)
    return VAL if position < val_fraction else TRAIN


def place_image(image: Path, target: Path, how: str) -> None:
    """Copy an image file to where a data set has it, or link it.

    A link is a hard link: it costs no space and survives moves, and programs see a file; where the
    file system has none, it is a copy all the same.

    Args:
        image: the file.
        target: its place in the data set.
        how: see `FormatSettings.dataset_images`; "none" does nothing.

    Raises:
        ImageError: the image is missing.
        OutputError: the copy cannot be written.
    """
    if how == "none":
        return
    check_file(image, ImageError)
    with atomic_path(target) as temporary:
        if how == "link" and _is_linked(image, temporary):
            return
        shutil.copyfile(image, temporary)


def _is_linked(image: Path, target: Path) -> bool:
    """Link an image; return False on another file system, or one without hard links."""
    try:
        os.link(image.resolve(), target)
    except OSError:
        return False
    return True


def place_jpeg(image: Path, target: Path, how: str) -> None:
    """Place an image as an upright JPEG file, encoded anew only where it is none.

    Raises:
        ImageError: the image is missing or damaged.
        OutputError: the file cannot be written.
    """
    if how == "none":
        return
    with open_image(image, ImageError) as opened:
        is_upright = opened.getexif().get(_ORIENTATION, 1) == 1
        is_jpeg = opened.format in ("JPEG", "MPO")
    if is_jpeg and is_upright:
        place_image(image, target, how)
        return
    pixels = read_image(image)
    with atomic_path(target) as temporary:
        Image.fromarray(pixels).save(temporary, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def one_line_names(names: Iterable[str], forbidden: str = "") -> Iterator[str]:
    """Yield class names that a file has one of per line.

    Raises LabelError for a name with a line break, or with a character that is forbidden.
    """
    for name in names:
        if len(name.splitlines()) != 1:
            raise LabelError(f"class name {name!r} is not one line")
        if any(each in name for each in forbidden):
            raise LabelError(f"class name {name!r} has one of {forbidden!r}, which the format uses")
        yield name
