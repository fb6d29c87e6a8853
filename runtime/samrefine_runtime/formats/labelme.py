"""Label maps as labelme annotations, one JSON beside or apart from each image.

labelme's polygons run through the centres of the outermost pixels and have no holes. A region
with a hole, or too thin for a polygon, becomes a shape of type "mask" (labelme >= 5.3), so that
labelme's own `shape_to_mask` gives back every region pixel by pixel.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.jsonfile import write_json
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.labels import LabelMap

VERSION = "5.5.0"


class LabelmeLabels(LabelFormat):
    """`<id>.json` per image."""

    def path(self, image_id: str) -> Path:
        """Return the JSON file of an image."""
        return self.folder / f"{image_id}.json"

    def write(self, image: Path, label: LabelMap) -> None:
        """Write the JSON file. Raises LabelError or OutputError."""
        write_labelme(self.path(image.stem), label, self.classes, image.resolve())


def write_labelme(
    path: str | Path,
    label: LabelMap,
    classes: Sequence[str],
    image: str | Path,
    *,
    tolerance: float = 0,
    min_area: int = 1,
) -> None:
    """Write one shape for each connected region of a label map.

    Args:
        label: (H, W) uint8; background 0 and 255 are not annotated.
        classes: names, background first.
        image: the image's file; stored relative to the folder of `path`.
        tolerance: pixels a polygon may leave its region, to save vertices.
        min_area: pixels below which a region is left out.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class without a name.
        OutputError: the file cannot be written.
    """
    shapes = [
        _shape(region, classes[region.class_id], tolerance)
        for region in regions(label, len(classes), min_area)
    ]
    relative = os.path.relpath(Path(image).resolve(), Path(path).resolve().parent)
    content = {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(relative).as_posix(),
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }
    write_json(path, content, indent=2)


def _shape(region: Region, name: str, tolerance: float) -> dict[str, Any]:
    points = _outline(region, tolerance)
    left, top, width, height = region.bbox
    corners = [[left, top], [left + width - 1, top + height - 1]]
    return {
        "label": name,
        "points": points or corners,
        "group_id": None,
        "description": "",
        "shape_type": "polygon" if points else "mask",
        "flags": {},
        "mask": None if points else _png(region),
    }


def _outline(region: Region, tolerance: float) -> list[list[int]]:
    """Points [x, y] through pixel centres, empty for a region that needs a mask."""
    pixels = region.mask.astype(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > 1:
        return []
    outline = cv2.approxPolyDP(contours[0], tolerance, True) if tolerance > 0 else contours[0]
    points: list[list[int]] = (outline[:, 0] + (region.left, region.top)).tolist()
    return points if len(points) >= 3 else []


def _png(region: Region) -> str:
    data = cv2.imencode(".png", region.mask.astype(np.uint8))[1].tobytes()
    return base64.b64encode(data).decode()
