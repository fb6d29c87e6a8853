"""Files in and out: one file per format, one line here."""

from __future__ import annotations

from pathlib import Path

from samrefine_runtime.checks import StrPath, as_path
from samrefine_runtime.errors import MaskFileError, SettingsError
from samrefine_runtime.formats.base import LabelFormat, LabelReader, MaskFormat
from samrefine_runtime.image import ImageShape
from samrefine_runtime.masks.masks import Masks, as_image_shape
from samrefine_runtime.registry import Registry

__all__ = [
    "BASE_FORMAT",
    "LABEL_FORMATS",
    "LABEL_READERS",
    "MASK_FORMATS",
    "LabelFormat",
    "LabelReader",
    "MaskFormat",
    "check_stored_masks",
    "find_labels",
    "find_stored_masks",
    "read_stored_masks",
]

BASE_FORMAT = "voc"
"""The label format from which all others are made."""

LABEL_FORMATS: Registry[type[LabelFormat]] = Registry(
    "label format",
    {
        "voc": "samrefine_runtime.formats.voc:VocLabels",
        "voc-devkit": "samrefine_runtime.formats.voc_devkit:VocDevkitLabels",
        "coco": "samrefine_runtime.formats.coco:CocoPolygonLabels",
        "coco-rle": "samrefine_runtime.formats.coco:CocoRleLabels",
        "coco-stuff": "samrefine_runtime.formats.coco:CocoStuffLabels",
        "labelme": "samrefine_runtime.formats.labelme:LabelmeLabels",
        "label-studio": "samrefine_runtime.formats.label_studio:LabelStudioLabels",
        "cvat": "samrefine_runtime.formats.cvat:CvatLabels",
        "yolo": "samrefine_runtime.formats.yolo:YoloLabels",
    },
)

# In the order in which `find_labels` tries them
LABEL_READERS: Registry[type[LabelReader]] = Registry(
    "label format",
    {
        "coco": "samrefine_runtime.formats.coco_reader:CocoReader",
        "labelme": "samrefine_runtime.formats.labelme_reader:LabelmeReader",
        "yolo": "samrefine_runtime.formats.yolo_reader:YoloReader",
        "voc": "samrefine_runtime.formats.voc:VocReader",
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


def find_labels(where: Path) -> str:
    """Return the format in LABEL_READERS that labels are in, by the files that are there.

    Raises:
        SettingsError: they look like none of them.
    """
    for name in LABEL_READERS:
        if LABEL_READERS[name].detects(where):
            return name
    raise SettingsError(
        f"{where}: no labels here, expected a COCO file, YOLO labels, labelme files or label PNGs"
    )


def check_stored_masks(where: str | Path) -> None:
    """Check that masks can be looked for: in a folder, or in a COCO file.

    Raises:
        SettingsError: neither, or another file.
    """
    from samrefine_runtime.formats.coco import open_coco_file

    if Path(where).is_dir():
        return
    try:
        open_coco_file(where)
    except MaskFileError as error:
        raise SettingsError(f"{error}; expected a folder of masks, or a COCO file") from error


def find_stored_masks(where: str | Path, image_id: str) -> Path | None:
    """Return the file or folder that holds the masks of an image, None if no format has any.

    Args:
        where: see `read_stored_masks`.
        image_id: see `names.image_id`.

    Raises:
        MaskFileError: a file that may hold them cannot be read.
    """
    return next((s.place(image_id) for s in _stores(Path(where)) if s.has(image_id)), None)


def read_stored_masks(
    where: StrPath, image_id: str, *, image_shape: ImageShape | None = None
) -> Masks:
    """Read the masks of one image, in the first format that has them.

    Args:
        where: output of `samrefine masks`, one folder of 0/255 PNG masks per image, or a COCO file;
            the folder that `Masks.save` wrote into, too.
        image_id: file name of the image without suffix, see `names.image_id`.
        image_shape: (H, W) the masks must have.

    Raises:
        SettingsError: no path, no name, or no shape.
        MaskFileError: no format has masks of this image, or those found cannot be read.
    """
    expected = "an image's file name without suffix"
    image_id = str(as_path(image_id, "image_id", expected=expected))
    image_shape = None if image_shape is None else as_image_shape(image_shape)
    where = as_path(where, "where")
    stores = _stores(where)
    for store in stores:
        if store.has(image_id):
            return store.read(image_id, image_shape=image_shape)
    places = ", ".join(store.place(image_id).name for store in stores)
    raise MaskFileError(f"{where}: no masks of {image_id} (looked for {places})")


def _stores(where: Path) -> list[MaskFormat]:
    """Return the formats in which a folder may have masks; a file is taken for COCO's."""
    from samrefine_runtime.formats.coco import CocoMasks

    if where.is_file():
        return [CocoMasks(where.parent, where.name)]
    return [MASK_FORMATS[name](where) for name in MASK_FORMATS]
