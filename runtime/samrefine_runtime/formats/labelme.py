"""Label maps as labelme annotations, one JSON file per image.

labelme's polygons run through the centres of the outermost pixels and have no holes. A region
with a hole, or too thin for a polygon, becomes a shape of type "mask" (labelme >= 5.3), so that
labelme's own `shape_to_mask` restores every region pixel by pixel.
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
"""Version of labelme that the files name as their writer."""


class LabelmeLabels(LabelFormat):
    """`<id>.json` per image."""

    def path(self, image_id: str) -> Path:
        """Return the JSON file of an image."""
        return self.folder / f"{image_id}.json"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the JSON file. Raises LabelError or OutputError."""
        path = self.path(image_id)
        # Paths inside the file count from where it will lie
        home = self.home / path.parent.relative_to(self.folder)
        write_labelme(path, label, self.classes, image, home=home)


def write_labelme(
    path: str | Path,
    label: LabelMap,
    classes: Sequence[str],
    image: str | Path,
    *,
    tolerance: float = 0,
    min_area: int = 1,
    home: Path | None = None,
) -> None:
    """Write one shape for each connected region of a label map.

    Args:
        path: JSON file to write.
        label: (H, W) uint8; background 0 and 255 are not annotated.
        classes: names, background first.
        image: file of the image; stored relative to the folder of `path`, or to `home`.
        tolerance: distance in pixels by which a polygon may deviate, to save vertices.
        min_area: area in pixels below which a region is omitted.
        home: the folder that the file will be moved to, if it is another than that of `path`.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class without a name.
        OutputError: the file cannot be written.
    """
    shapes = [
        _shape(region, classes[region.class_id], tolerance)
        for region in regions(label, len(classes), min_area)
    ]
    folder = Path(path).parent if home is None else home
    relative = os.path.relpath(Path(image).resolve(), folder.resolve())
    # Without imageData labelme opens imagePath, so the image is not stored twice
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
    """Return the labelme shape of a region: a polygon, or a mask where none can hold it."""
    points = _outline(region, tolerance)
    # A mask is placed by its corners, right and bottom inclusive
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
    """Return points [x, y] through pixel centres, none for a region that needs a mask."""
    # CCOMP finds outer borders and holes: a second contour is a hole
    pixels = region.mask.astype(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > 1:
        return []
    outline = cv2.approxPolyDP(contours[0], tolerance, True) if tolerance > 0 else contours[0]
    # Fewer than three points enclose nothing: the region is a line or a single pixel
    points: list[list[int]] = (outline[:, 0] + (region.left, region.top)).tolist()
    return points if len(points) >= 3 else []


def _png(region: Region) -> str:
    """Encode a region's mask as labelme does: a PNG of 0 and 1 in base64."""
    data = cv2.imencode(".png", region.mask.astype(np.uint8))[1].tobytes()
    return base64.b64encode(data).decode()
