"""Boxes of objects in images, as others store them: one file per format, one line here."""

from __future__ import annotations

from pathlib import Path

from samrefine_runtime.checks import StrPath, as_path
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats.boxes.base import Box, BoxFormat
from samrefine_runtime.registry import Registry

__all__ = ["BOX_FORMATS", "Box", "BoxFormat", "open_boxes"]

# In the order in which `open_boxes` tries them
BOX_FORMATS: Registry[type[BoxFormat]] = Registry(
    "box format",
    {
        "voc": "samrefine_runtime.formats.boxes.voc:VocBoxes",
        "coco": "samrefine_runtime.formats.boxes.coco:CocoBoxes",
        "yolo": "samrefine_runtime.formats.boxes.yolo:YoloBoxes",
    },
)


def open_boxes(path: StrPath, classes: tuple[str, ...] | None = None) -> BoxFormat:
    """Open boxes in the first format that what is there may be.

    Args:
        path: a folder of VOC annotations (.xml) or of YOLO labels (.txt), or a COCO file (.json).
        classes: foreground names (C,), in the order of the label values; None for those that the
            files name.

    Raises:
        SettingsError: no format fits, the files cannot be read, or name no classes.
    """
    where = as_path(path, "boxes")
    for name in BOX_FORMATS:
        if BOX_FORMATS[name].fits(where):
            return BOX_FORMATS[name](where, classes)
    expected = "; ".join(BOX_FORMATS[name].expected for name in BOX_FORMATS)
    raise SettingsError(f"{Path(where)}: no boxes here, expected {expected}")
