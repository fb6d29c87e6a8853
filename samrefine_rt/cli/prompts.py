"""Points and boxes on the command line."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import click

from samrefine_runtime.errors import LabelError
from samrefine_runtime.image import ImageShape

_CORNERS = 4
_COORDINATES = 2


class BoxPrompt(NamedTuple):
    """A box in every image, edges in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    name: str = ""
    """Its class, "" for the first one."""

    def check(self, image_shape: ImageShape) -> None:
        """Raise LabelError unless the box is inside an image (H, W)."""
        height, width = image_shape
        if min(self.left, self.top) < 0 or self.right > width or self.bottom > height:
            edges = ",".join(f"{edge:g}" for edge in self[:_CORNERS])
            raise LabelError(f"--box {edges} extends beyond the image of {width} x {height} pixels")


class PointPrompt(NamedTuple):
    """A point in every image, in pixels."""

    x: float
    y: float
    is_object: bool = True
    """Whether it is on the object, else beside it."""

    def check(self, image_shape: ImageShape) -> None:
        """Raise LabelError unless the point is inside an image (H, W)."""
        height, width = image_shape
        if not (0 <= self.x < width and 0 <= self.y < height):
            text = f"--point {self.x:g},{self.y:g}"
            raise LabelError(f"{text} lies outside the image of {width} x {height} pixels")


class PromptBox(click.ParamType):  # type: ignore[type-arg]
    """Four numbers and perhaps a class, separated by commas."""

    name = "box"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> BoxPrompt:
        """Return the box, else fail as a usage error."""
        if isinstance(value, BoxPrompt):
            return value
        parts = value.split(",", _CORNERS)
        edges = _numbers(parts[:_CORNERS])
        if len(edges) < _CORNERS or edges[0] >= edges[2] or edges[1] >= edges[3]:
            self.fail(f"{value!r}, expected x0,y0,x1,y1 with x0 < x1 and y0 < y1", param, ctx)
        name = parts[_CORNERS].strip() if len(parts) > _CORNERS else ""
        left, top, right, bottom = edges
        return BoxPrompt(left, top, right, bottom, name)


class PromptPoint(click.ParamType):  # type: ignore[type-arg]
    """Two numbers and perhaps 0 or 1, separated by commas."""

    name = "point"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> PointPrompt:
        """Return the point, else fail as a usage error."""
        if isinstance(value, PointPrompt):
            return value
        parts = [part.strip() for part in value.split(",")]
        numbers = _numbers(parts[:_COORDINATES])
        if len(numbers) < _COORDINATES or parts[_COORDINATES:] not in ([], ["0"], ["1"]):
            self.fail(f"{value!r}, expected x,y or x,y,0 or x,y,1", param, ctx)
        x, y = numbers
        return PointPrompt(x, y, parts[_COORDINATES:] != ["0"])


def _numbers(parts: list[str]) -> list[float]:
    """Return finite numbers; none where one is not."""
    try:
        found = [float(part) for part in parts]
    except ValueError:
        return []
    return found if all(map(math.isfinite, found)) else []
