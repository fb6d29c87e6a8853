"""Label maps from labelme's and X-AnyLabeling's files, one JSON file of shapes per image."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samrefine_runtime.errors import LabelError, MaskFileError
from samrefine_runtime.formats.base import LabelReader
from samrefine_runtime.formats.class_values import checked_names, class_value, is_class
from samrefine_runtime.formats.jsonfile import read_json
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.formats.rasterise import as_polygon, draw_polygon, paint
from samrefine_runtime.formats.records import check_image_shape
from samrefine_runtime.image import ImageShape
from samrefine_runtime.image_file import quiet_pillow
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import image_id

_POLYGONS = ("polygon", "rotation", "quadrilateral", "oriented_rectangle", None)
"""Shape types that are drawn as polygons; labelme's early files name no type."""


class LabelmeReader(LabelReader):
    """A folder of JSON files. Shapes are drawn in their order, as labelme does.

    Without other names, the labels of all files are the classes, sorted.
    """

    @classmethod
    def detects(cls, where: Path) -> bool:
        """Return whether there are JSON files, the first of which has shapes."""
        first = next(iter(files_in(where, {".json"})), None) if where.is_dir() else None
        try:
            return first is not None and "shapes" in _content(first)
        except LabelError:
            return False

    def __init__(self, where: Path, classes: Sequence[str] | None, images: Mapping[str, Path]):
        self.files = {image_id(path, where): path for path in files_in(where, {".json"})}
        if not self.files:
            raise LabelError(f"{where}: no labelme files here, which are .json files")
        self._given = None if classes is None else tuple(classes)
        if classes is None:
            self.classes = _gathered(self.files.values())

    def read(self, image_id: str) -> LabelMap:
        """Draw the shapes of an image. Raises LabelError."""
        path = self.files[image_id]
        content, classes = _content(path), self._given or self.classes or ()
        try:
            shape = check_image_shape([content.get("imageHeight"), content.get("imageWidth")])
            shapes = content["shapes"]
            regions = [_region(each, class_value(_name(each), classes), shape) for each in shapes]
        except (LabelError, MaskFileError) as error:
            raise LabelError(f"{path}: {error}") from error
        return paint(shape, regions)

    def image(self, image_id: str) -> Path | None:
        """Return the image that the file names, if it is there."""
        path = self.files[image_id]
        name = _content(path).get("imagePath")
        if not isinstance(name, str) or "\0" in name:
            return None
        image = path.parent / name.replace("\\", "/")
        return image if image.is_file() else None


def _content(path: Path) -> dict[str, Any]:
    """Read a file. Raises LabelError unless it is a JSON object with a list of shapes."""
    content = read_json(path, LabelError)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(each, dict) for each in shapes):
        raise LabelError(f"{path}: not a labelme file, 'shapes' is missing")
    return content  # type: ignore[no-any-return]


def _gathered(files: Any) -> tuple[str, ...]:
    """Return the labels of all shapes, sorted, after the background; broken files are left out."""
    names: set[str] = set()
    for path in files:
        try:
            names |= {_name(each) for each in _content(path)["shapes"]}
        except LabelError:  # raised again when the image is worked on
            continue
    return checked_names(["background", *sorted(filter(is_class, names))])


def _name(shape: Mapping[str, Any]) -> str:
    """Return the label of a shape. Raises LabelError."""
    name = shape.get("label")
    if not isinstance(name, str) or not name:
        raise LabelError(f"a shape has the label {short(name)}, expected text")
    return name


def _region(shape: Mapping[str, Any], value: int, image_shape: ImageShape) -> Region:
    """Return the pixels of a shape, as labelme's `shape_to_mask` draws them. Raises LabelError."""
    kind, points = shape.get("shape_type"), shape.get("points")
    if kind in _POLYGONS:
        return draw_polygon(as_polygon(points), image_shape, value)
    if kind not in ("rectangle", "circle", "mask"):
        raise LabelError(f"a shape of type {short(kind)}, which has no pixels of its own")
    corners = as_polygon(points, least=2)
    if kind == "circle":
        return _circle(corners, image_shape, value)
    # Two opposite corners; X-AnyLabeling has all four
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if kind == "mask":
        return _mask(shape.get("mask"), int(left), int(top), value, image_shape)
    box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return draw_polygon(box, image_shape, value)


def _circle(points: NDArray[np.float64], image_shape: ImageShape, value: int) -> Region:
    """Return the pixels of a circle, given by its centre and a point on it."""
    (x, y), radius = points[0], math.dist(*points[:2])
    image = Image.new("1", image_shape[::-1])
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image).ellipse(box, fill=1, outline=1)
    return Region(value, 0, 0, np.array(image))


def _mask(text: Any, left: int, top: int, value: int, image_shape: ImageShape) -> Region:
    """Return the pixels of a mask, a PNG in base64, whose top left pixel is given.

    Raises LabelError.
    """
    try:
        data = base64.b64decode(text, validate=True)
        with quiet_pillow, Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if not (0 <= left <= image_shape[1] - image.width):
                raise ValueError(f"mask of {image.width} columns at {left}, outside of the image")
            if not (0 <= top <= image_shape[0] - image.height):
                raise ValueError(f"mask of {image.height} rows at {top}, outside of the image")
            mask = np.array(image.convert("L")) > 0
    except (TypeError, binascii.Error, ValueError, OSError, SyntaxError) as error:
        raise LabelError(f"a mask is not readable ({error})") from error
    return Region(value, left, top, mask)
