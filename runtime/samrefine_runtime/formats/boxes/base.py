"""What a format of boxes must do; `boxes.BOX_FORMATS` lists them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import unknown_class
from samrefine_runtime.errors import LabelError
from samrefine_runtime.image import ImageShape

_SLACK = 1.0
"""Pixels by which a box may extend beyond the image: programs count corners from 0 or from 1, and
round. What extends is cut off."""


class Box(NamedTuple):
    """A box and its class, as a file has it."""

    name: str
    """The class."""
    left: float
    top: float
    right: float
    bottom: float
    """Edges in pixels, or in fractions of the image's sides (`BoxFormat.is_relative`)."""


class BoxFormat(ABC):
    """A way to store the boxes of a set of images."""

    expected: ClassVar[str]
    """What it reads, for messages."""
    is_relative: ClassVar[bool] = False
    """Whether edges are fractions of the image's width and height."""

    path: Path
    """File or folder of the boxes."""
    classes: tuple[str, ...]
    """Foreground names (C,); class i has label value i + 1."""

    @classmethod
    @abstractmethod
    def fits(cls, path: Path) -> bool:
        """Return whether a file or folder may hold boxes in this format."""

    @abstractmethod
    def __init__(self, path: Path, classes: tuple[str, ...] | None):
        """Open the boxes, see `open_boxes`. Raises SettingsError."""

    @abstractmethod
    def listed(self, image_id: str) -> list[Box]:
        """Return the boxes of an image as the file has them.

        Raises:
            LabelError: the image is not listed, or its boxes cannot be read.
        """

    def read(
        self, image_id: str, image_shape: ImageShape
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Return the boxes of an image (N, 4) XYXY in pixels, and their label values (N,).

        Args:
            image_id: see `names.image_id`.
            image_shape: (H, W).

        Raises:
            LabelError: as `listed`, or a box is of an unknown class, empty or outside the image.
        """
        found = self.listed(image_id)
        boxes = [self._checked(box, number, image_shape) for number, box in enumerate(found, 1)]
        values = [self.classes.index(box.name) + 1 for box in found]
        return np.array(boxes, np.float64).reshape(-1, 4), np.array(values, np.uint8)

    def _checked(
        self, box: Box, number: int, image_shape: ImageShape
    ) -> tuple[float, float, float, float]:
        """Return the edges XYXY of a box in pixels, inside the image. Raises LabelError."""
        if box.name not in self.classes:
            raise LabelError(f"box {number}: {unknown_class(box.name, self.classes)}")
        height, width = image_shape
        scale = (width, height, width, height) if self.is_relative else (1, 1, 1, 1)
        edges = [edge * by for edge, by in zip(box[1:], scale, strict=True)]
        left, top, right, bottom = edges
        text = f"box {number} ({box.name}) from {left:.6g}, {top:.6g} to {right:.6g}, {bottom:.6g}"
        if not all(map(math.isfinite, edges)) or left >= right or top >= bottom:
            raise LabelError(f"{text} is empty, expected left < right and top < bottom")
        if min(left, top) < -_SLACK or right > width + _SLACK or bottom > height + _SLACK:
            raise LabelError(f"{text} extends beyond the image of {width} x {height} pixels")
        inside = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise LabelError(f"{text} lies outside the image of {width} x {height} pixels")
        return inside
