"""Procedural "dead leaves" images with exact ground truth, from a seed: numpy and OpenCV only.

A scene is painted back to front: one to three backdrop surfaces, class-less clutter (leaves, and
things of several pieces), one to three objects of the classes in `CLASSES` with some clutter in
front of them; then light, lens, sensor noise and JPEG.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_export.demo import paint, shapes
from samrefine_export.demo.shapes import Part, Points, Rng

CLASSES: tuple[str, ...] = tuple(shapes.OBJECTS)
"""Names of the classes 1, 2, ...; class 0 is background."""

_SHIFT = 4  # fractional bits of the polygon corners given to OpenCV


@dataclass(frozen=True)
class Scene:
    """One procedural image with its ground truth."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    label: NDArray[np.uint8]
    """(H, W) 0 background, 1 to C classes."""
    regions: NDArray[np.uint16]
    """(H, W) id of the thing seen at each pixel: 0, 1, ... index `region_class`."""
    region_class: NDArray[np.uint8]
    """(R,) class of each region, 0 for backdrop and clutter."""
    parts: NDArray[np.uint16]
    """(H, W) id of the evenly painted piece at each pixel; finer than `regions`."""
    part_region: NDArray[np.uint16]
    """(P,) region that each part belongs to."""

    @property
    def image_labels(self) -> NDArray[np.bool_]:
        """(C,) bool, which classes are in the image."""
        return np.bincount(self.label.ravel(), minlength=len(CLASSES) + 1)[1:] > 0


def make_scene(seed: int, size: int | tuple[int, int] = 256) -> Scene:
    """Paint the scene of `seed`.

    Args:
        seed: the scene is a function of it and of the size.
        size: side of a square, or (height, width), in pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, height, width)
    # Backdrop and clutter, at times out of focus
    canvas.backdrop()
    for _ in range(int(rng.integers(2, 8))):
        canvas.clutter()
    if rng.random() < 0.4:
        canvas.defocus()
    # One to three objects, some clutter in front of them; at times two of one class
    kinds = rng.integers(1, len(CLASSES) + 1, size=rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
    if len(kinds) > 1 and rng.random() < 0.3:
        kinds[1] = kinds[0]
    for kind in kinds:
        canvas.thing(int(kind))
        if rng.random() < 0.5:
            canvas.clutter()
    return canvas.finish()


class _Canvas:
    """A scene in progress: colours, and the id of the part on top at each pixel."""

    def __init__(self, rng: Rng, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.unit = float(np.sqrt(height * width))
        self.image = np.zeros((height, width, 3), np.float32)
        self.parts = np.zeros((height, width), np.uint16)
        self.part_region: list[int] = []
        self.region_class: list[int] = []
        self.light = (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 0.2)))
        self.shadow = float(rng.uniform(0.0, 0.6))

    def backdrop(self) -> None:
        """Fill the canvas with one wall, or wall and floor, or sky, hills and ground."""
        rng, box = self.rng, (0, 0, self.width, self.height)
        for layer in range(int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))):
            alpha = np.ones((self.height, self.width), np.float32)
            if layer:
                line = self.height * (0.3 * layer + rng.uniform(0.0, 0.3))
                tilt = rng.normal(0, 0.08) * np.linspace(-1, 1, self.width) * self.width
                waves = (
                    paint.noise(rng, (1, self.width), 0.0)[0] * rng.choice([0, 0.1]) * self.height
                )
                y = np.arange(self.height, dtype=np.float32)[:, None]
                alpha = np.clip(y - (line + tilt + waves) + 0.5, 0, 1).astype(np.float32)
            self._begin(0)
            self._lay(
                box, alpha, paint.look(rng, paint.colour(rng, 0.12), self.light), 2 * self.unit
            )

    def clutter(self) -> None:
        """Paint one class-less thing, unless it would hide too much of an object already there."""
        rng = self.rng
        kind = rng.choice(["leaf", "compound", "creature"], p=[0.6, 0.2, 0.2])
        if kind == "leaf":
            parts = [Part((shapes.leaf(rng),), "body")]
        else:
            parts = shapes.compound(rng) if kind == "compound" else shapes.creature(rng)
        reach = self.unit * rng.uniform(0.07, 0.26)
        centre = rng.uniform(0, 1, 2) * (self.width, self.height)
        turn = rng.normal(0, 0.25) if kind == "creature" else rng.uniform(0, 2 * np.pi)
        placed = self._place(parts, centre, reach, float(turn))
        if self._hides(placed) < 0.12:
            self._stamp(placed, 0, reach)

    def thing(self, kind: int) -> None:
        """Paint one object of class `kind`, mostly inside the image and beside the others."""
        rng = self.rng
        parts = shapes.OBJECTS[CLASSES[kind - 1]](rng)
        # Try places until it covers less than a tenth of any other object
        for _ in range(8):
            reach = self.unit * rng.uniform(0.16, 0.4)
            margin = 0.6 * reach
            centre = rng.uniform((margin, margin), (self.width - margin, self.height - margin))
            turn = rng.normal(0, 0.22) if rng.random() < 0.85 else rng.uniform(-1.2, 1.2)
            placed = self._place(parts, centre, reach, float(turn))
            if self._hides(placed) < 0.1:
                self._stamp(placed, kind, reach)
                return

    def defocus(self) -> None:
        """Blur all that is painted so far, as behind the plane of focus."""
        sigma = self.unit * self.rng.uniform(0.002, 0.009)
        self.image = np.asarray(cv2.GaussianBlur(self.image, (0, 0), sigma), np.float32)

    def finish(self) -> Scene:
        """Apply light, lens, noise and JPEG, and return the scene with its ground truth."""
        part_region = np.array(self.part_region, np.uint16)
        region_class = np.array(self.region_class, np.uint8)
        regions = part_region[self.parts]
        image = paint.develop(self.rng, self.image)
        return Scene(image, region_class[regions], regions, region_class, self.parts, part_region)

    def _place(
        self, parts: list[Part], centre: NDArray[np.float64], reach: float, turn: float
    ) -> list[Part]:
        """Return the parts in pixels: mirrored, stretched, turned, scaled and moved."""
        rng = self.rng
        cos, sin = np.cos(turn), np.sin(turn)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        frame = (
            np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror, rng.uniform(0.8, 1.25)]) * reach
        )
        frame = frame @ np.array([[1, rng.normal(0, 0.08)], [0, 1]])
        move = frame.astype(np.float32).T
        return [
            Part(tuple(c @ move + np.asarray(centre, np.float32) for c in p.contours), p.role)
            for p in parts
        ]

    def _hides(self, placed: list[Part]) -> float:
        """Return the largest fraction of an object on the canvas that the parts would cover."""
        cover = np.zeros((self.height, self.width), np.uint8)
        for part in placed:
            _fill(cover, part.contours, (0, 0))
        seen = np.array(self.part_region, np.int64)[self.parts]
        total = np.bincount(seen.ravel(), minlength=len(self.region_class))
        hidden = np.bincount(seen[cover > 127], minlength=len(self.region_class))
        share = np.where(np.array(self.region_class) > 0, hidden / np.maximum(total, 1), 0)
        return float(share.max())

    def _stamp(self, placed: list[Part], kind: int, reach: float) -> None:
        """Paint a thing of class `kind`, shadow first, its parts in order."""
        # Choose the surfaces
        rng = self.rng
        vivid = 0.4 if kind else 0.3
        colours = {role: paint.colour(rng, vivid) for role in ("body", "second", "accent")}
        colours["dark"] = paint.colour(rng, 0.0) * np.float32(0.2)
        colours["light"] = np.float32(1) - (1 - paint.colour(rng, 0.2)) * np.float32(
            rng.uniform(0.1, 0.5)
        )
        if rng.random() < 0.3:
            colours["second"] = np.clip(colours["body"] * rng.uniform(0.6, 1.3), 0, 1).astype(
                np.float32
            )
        looks = {role: paint.look(rng, base, self.light) for role, base in colours.items()}
        # Paint shadow and parts, each cut to its box
        self._cast_shadow(placed, reach)
        self._begin(kind, count=0)
        for part in placed:
            box = _box(part.contours, self.width, self.height)
            if box[0] < box[2] and box[1] < box[3]:
                coverage = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
                _fill(coverage, part.contours, box[:2])
                self._begin_part()
                self._lay(
                    box, coverage.astype(np.float32) / np.float32(255), looks[part.role], reach
                )

    def _cast_shadow(self, placed: list[Part], reach: float) -> None:
        """Darken the canvas where the parts keep the light off."""
        cover = np.zeros((self.height, self.width), np.uint8)
        away = (-self.light[0] * 0.15 * reach, max(-self.light[1], 0.2) * 0.15 * reach)
        for part in placed:
            _fill(cover, tuple(c + np.array(away, np.float32) for c in part.contours), (0, 0))
        soft = cv2.GaussianBlur(cover, (0, 0), max(reach * self.rng.uniform(0.02, 0.12), 0.5))
        self.image *= 1 - self.shadow * soft[..., None].astype(np.float32) / 255

    def _begin(self, kind: int, count: int = 1) -> None:
        """Open a region of class `kind`, with its first part unless `count` is 0."""
        self.region_class.append(kind)
        for _ in range(count):
            self._begin_part()

    def _begin_part(self) -> None:
        self.part_region.append(len(self.region_class) - 1)

    def _lay(
        self, box: tuple[int, int, int, int], alpha: paint.Field, skin: paint.Look, pixel: float
    ) -> None:
        """Blend a surface into `box` (x0, y0, x1, y1) as the part begun last."""
        x0, y0, x1, y1 = box
        fresh = paint.surface(self.rng, skin, alpha, pixel)
        under = self.image[y0:y1, x0:x1]
        under += alpha[..., None] * (fresh - under)
        self.parts[y0:y1, x0:x1][alpha > 0.5] = len(self.part_region) - 1


def _fill(cover: NDArray[np.uint8], contours: tuple[Points, ...], origin: tuple[int, int]) -> None:
    """Draw polygons in pixels, antialiased with 255, onto `cover` whose corner is at `origin`."""
    corners = [
        np.round((c - np.array(origin) - 0.5) * 2**_SHIFT).astype(np.int32) for c in contours
    ]
    cv2.fillPoly(cover, corners, 255, cv2.LINE_AA, _SHIFT)


def _box(contours: tuple[Points, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """Return the XYXY pixel box around the contours, clipped to the image."""
    points = np.concatenate(contours)
    low, high = np.floor(points.min(0)) - 1, np.ceil(points.max(0)) + 2
    x0, y0 = np.clip(low, 0, (width, height)).astype(int)
    x1, y1 = np.clip(high, 0, (width, height)).astype(int)
    return int(x0), int(y0), int(x1), int(y1)
