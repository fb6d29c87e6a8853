"""Label maps as labelme annotations, one JSON file per image, which X-AnyLabeling opens too.

Polygons run through the centres of the outermost pixels and have no holes: a region that has some
is cut into parts (`parts`), which share a group id. So labelme's own `shapes_to_label` counts them
as one object, and at tolerance 0 restores every region pixel by pixel.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.jsonfile import write_json
from samrefine_runtime.formats.parts import EDITABLE, outline, parts
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.labels import LabelMap

VERSION = "5.5.0"
"""Version of labelme that the files name as their writer."""


class LabelmeLabels(LabelFormat):
    """`<id>.json` per image."""

    heeds = ("tolerance", "min_area", "objects", "shapes")

    def path(self, image_id: str) -> Path:
        """Return the JSON file of an image."""
        return self.folder / f"{image_id}.json"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Write the JSON file. Raises LabelError or OutputError."""
        path, given = self.path(image_id), self.settings
        write_labelme(
            path,
            label,
            self.classes,
            image,
            tolerance=EDITABLE if given.tolerance is None else given.tolerance,
            allows_masks=given.shapes == "masks",
            found=self.annotated(image_id, label),
            # Paths inside the file count from where it will lie
            home=self.home / path.parent.relative_to(self.folder),
        )


def write_labelme(
    path: str | Path,
    label: LabelMap,
    classes: Sequence[str],
    image: str | Path,
    *,
    tolerance: float = EDITABLE,
    min_area: int = 1,
    allows_masks: bool = False,
    found: Sequence[Region] | None = None,
    home: Path | None = None,
) -> None:
    """Write the connected regions of a label map, large ones first so that small ones lie on top.

    Args:
        path: JSON file to write.
        label: (H, W) uint8; background 0 and 255 are not annotated.
        classes: names, background first.
        image: file of the image; stored relative to the folder of `path`, or to `home`.
        tolerance: distance in pixels by which a polygon may deviate, to save vertices, as far as
            `parts.outline` allows; 0 is exact.
        min_area: area in pixels below which a region is omitted.
        allows_masks: whether regions with holes or too thin for a polygon become shapes of type
            "mask", which only labelme (>= 5.3) reads.
        found: what is annotated of the label, None for its connected regions.
        home: the folder that the file will be moved to, if it is another than that of `path`.

    Raises:
        LabelError: the label is not (H, W) uint8 or has a class without a name.
        OutputError: the file cannot be written.
    """
    if found is None:
        found = list(regions(label, len(classes), min_area))
    found = sorted(found, key=lambda region: -region.area)
    draw = _with_masks if allows_masks else _polygons
    shapes = [
        shape
        for group, region in enumerate(found)
        for shape in draw(region, classes[region.class_id], tolerance, group)
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


def _polygons(region: Region, name: str, tolerance: float, group: int) -> Iterator[dict[str, Any]]:
    """Yield the polygons of a region; where there are several they are a group."""
    outlines = [outline(part, tolerance) for part in parts(region, tolerance)]
    for points in outlines:
        yield _shape(region, name, points, group=group if len(outlines) > 1 else None)


def _with_masks(
    region: Region, name: str, tolerance: float, group: int
) -> Iterator[dict[str, Any]]:
    """Yield one polygon, or one mask where it cannot hold the region."""
    (first, *others) = parts(region, tolerance)
    points = outline(first, tolerance)
    is_thin = 1 in region.mask.shape
    if not others and not is_thin:
        yield _shape(region, name, points)
        return
    left, top, width, height = region.bbox
    corners: list[list[float]] = [[left, top], [left + width - 1, top + height - 1]]
    yield _shape(region, name, corners, mask=_png(region))


def _shape(
    region: Region,
    name: str,
    points: list[list[float]],
    *,
    group: int | None = None,
    mask: str | None = None,
) -> dict[str, Any]:
    """Return a shape as labelme writes it, with X-AnyLabeling's score where it is known."""
    score = {} if region.confidence is None else {"score": round(region.confidence, 4)}
    return {
        "label": name,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": "mask" if mask else "polygon",
        "flags": {},
        "mask": mask,
        **score,
    }


def _png(region: Region) -> str:
    """Encode a region's mask as labelme does: a PNG of 0 and 1 in base64."""
    data = cv2.imencode(".png", region.mask.astype(np.uint8))[1].tobytes()
    return base64.b64encode(data).decode()
