"""Files in and out: one file per format, one line here."""

from __future__ import annotations

from pathlib import Path

from samrefine_runtime.errors import MaskFileError
from samrefine_runtime.formats.base import LabelFormat, MaskFormat
from samrefine_runtime.image import ImageShape
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.registry import Registry

__all__ = [
    "LABEL_FORMATS",
    "MASK_FORMATS",
    "LabelFormat",
    "MaskFormat",
    "find_stored_masks",
    "read_stored_masks",
]

LABEL_FORMATS: Registry[type[LabelFormat]] = Registry(
    "label format",
    {
        "voc": "samrefine_runtime.formats.voc:VocLabels",
        "coco": "samrefine_runtime.formats.coco:CocoPolygonLabels",
        "coco-rle": "samrefine_runtime.formats.coco:CocoRleLabels",
        "labelme": "samrefine_runtime.formats.labelme:LabelmeLabels",
        "yolo": "samrefine_runtime.formats.yolo:YoloLabels",
    },
)

# In the order in which `read_stored_masks` looks for them
MASK_FORMATS: Registry[type[MaskFormat]] = Registry(
    "mask format",
    {
        "records": "samrefine_runtime.formats.records:RecordMasks",
        "png": "samrefine_runtime.formats.mask_folder:PngMasks",
        "coco": "samrefine_runtime.formats.coco:CocoMasks",
    },
)


def find_stored_masks(folder: str | Path, image_id: str) -> Path | None:
    """Return the file or folder that holds the masks of an image, None if no format has any.

    Args:
        folder: output of `samrefine masks`, or one folder of 0/255 PNG masks per image.
        image_id: see `names.image_id`.

    Raises:
        MaskFileError: a file that may hold them cannot be read.
    """
    for stored in (MASK_FORMATS[name](Path(folder)) for name in MASK_FORMATS):
        if stored.has(image_id):
            return stored.place(image_id)
    return None


def read_stored_masks(
    folder: str | Path, image_id: str, *, image_shape: ImageShape | None = None
) -> Masks:
    """Read the masks of one image from a folder, in the first format that has them.

    Args:
        folder: output of `samrefine masks`, or one folder of 0/255 PNG masks per image.
        image_id: file name of the image without its suffix.
        image_shape: (H, W) the masks must have.

    Raises:
        MaskFileError: no format has masks of this image, or those found cannot be read.
    """
    places = []
    for name in MASK_FORMATS:
        stored = MASK_FORMATS[name](Path(folder))
        if stored.has(image_id):
            return stored.read(image_id, image_shape=image_shape)
        places.append(stored.place(image_id).name)
    raise MaskFileError(f"{folder}: no masks of {image_id} (looked for {', '.join(places)})")
