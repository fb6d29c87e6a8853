"""Outlines of the things in a scene, in unit coordinates: x right, y down, about -1 to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """One evenly painted piece of an object."""

    contours: tuple[Points, ...]
    """Closed polygons (N, 2), filled by the even-odd rule."""
    role: str
    """Which of the object's colours it takes: body, second, accent, dark or light."""


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Return the polygon (40, 2) of an ellipse turned by `angle` radians."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], axis=1).astype(np.float32)


def polygon(*points: tuple[float, float]) -> Points:
    """Return the polygon (N, 2) through the given corners."""
    return np.array(points, np.float32)


def smooth(points: Points, steps: int = 6) -> Points:
    """Return the closed Catmull-Rom curve (N * steps, 2) through `points` (N, 2)."""
    before, after, last = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * points
        + (after - before) * t
        + (2 * before - 5 * points + 4 * after - last) * t**2
        + (3 * points - before - 3 * after + last) * t**3
    )
    return curve.transpose(1, 0, 2).reshape(-1, 2).astype(np.float32)


def limb(start: tuple[float, float], end: tuple[float, float], wide: float, thin: float) -> Points:
    """Return a tapered bar (N, 2) with round ends, `wide` and `thin` being its half widths."""
    a, b = np.array(start), np.array(end)
    angle = float(np.arctan2(*(b - a)[::-1]))
    t = np.linspace(np.pi / 2, 3 * np.pi / 2, 9) + angle
    back = a + wide * np.stack([np.cos(t), np.sin(t)], 1)
    front = b + thin * np.stack([np.cos(t + np.pi), np.sin(t + np.pi)], 1)
    return np.concatenate([back, front]).astype(np.float32)


def blob(rng: Rng, rough: float, lobes: int = 5) -> Points:
    """Return a random closed curve (64, 2); `rough` 0 is a circle, 0.4 quite ragged."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(t)
    for k in range(2, lobes + 2):
        radius += rough / np.sqrt(k - 1) * rng.normal() * np.cos(k * t + rng.uniform(0, 6.3))
    radius = np.clip(radius, 0.25, 1.8) / max(1.0, float(radius.max()))
    return np.stack([radius * np.cos(t), radius * np.sin(t)], 1).astype(np.float32)


def _part(role: str, *contours: Points) -> Part:
    return Part(contours, role)


def _eye(x: float, y: float, size: float) -> list[Part]:
    return [
        _part("light", ellipse(x, y, size, size)),
        _part("dark", ellipse(x, y, size * 0.55, size * 0.55)),
    ]


def _fish(rng: Rng) -> list[Part]:
    tall, fork = rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.55)
    body = smooth(
        polygon(
            (0.85, 0),
            (0.4, -tall),
            (-0.2, -tall * 0.8),
            (-0.62, 0),
            (-0.2, tall * 0.8),
            (0.4, tall),
        )
    )
    tail = polygon((-0.5, 0), (-1, -fork), (-0.85, 0.02), (-1, fork))
    fin = smooth(
        polygon((0.3, -tall * 0.7), (0.05, -tall - 0.28), (-0.35, -tall - 0.1), (-0.3, -tall * 0.5))
    )
    stripes = [
        _part("accent", ellipse(x, 0, 0.06, tall * 0.75))
        for x in np.linspace(-0.3, 0.3, int(rng.integers(2, 4)))
    ]
    gill = _part("second", ellipse(0.15, 0.12, 0.16, 0.09, 0.4))
    return [
        _part("second", tail), _part("second", fin), _part("body", body),
        *(stripes if rng.random() < 0.7 else [gill]), *_eye(0.55, -0.08, rng.uniform(0.09, 0.13)),
    ]  # fmt: skip


def _butterfly(rng: Rng) -> list[Part]:
    span, low = rng.uniform(0.75, 1.0), rng.uniform(0.55, 0.8)
    parts: list[Part] = []
    for side in (-1, 1):
        upper = polygon(
            (0, -0.1), (side * 0.45 * span, -0.85), (side * span, -0.7), (side * 0.75 * span, -0.05)
        )
        lower = polygon((0, 0.0), (side * 0.7 * span, 0.1), (side * low, 0.65), (side * 0.3, 0.6))
        parts += [_part("second", smooth(lower)), _part("body", smooth(upper))]
        parts.append(_part("accent", ellipse(side * 0.6 * span, -0.5, 0.17, 0.15)))
        parts.append(_part("light", ellipse(side * 0.45, 0.35, 0.1, 0.1)))
    parts.append(_part("dark", limb((0, -0.45), (0, 0.5), 0.09, 0.05)))
    feelers = [limb((0, -0.45), (s * 0.25, -0.9), 0.03, 0.025) for s in (-1, 1)]
    return [*parts, *(_part("dark", f) for f in feelers)]


def _mushroom(rng: Rng) -> list[Part]:
    cap, stem = rng.uniform(0.7, 1.0), rng.uniform(0.16, 0.32)
    hood = smooth(
        polygon(
            (-cap, 0.1), (-cap * 0.7, -0.55), (0, -0.85), (cap * 0.7, -0.55), (cap, 0.1), (0, 0.2)
        )
    )
    trunk = smooth(
        polygon((-stem, 0), (stem, 0), (stem * 1.35, 0.9), (0, 1.0), (-stem * 1.35, 0.9))
    )
    spots = [
        _part("light", ellipse(x * cap, y, r, r * 0.8))
        for x, y, r in (
            (-0.5, -0.25, 0.13),
            (0.05, -0.55, 0.15),
            (0.5, -0.2, 0.14),
            (0.0, -0.1, 0.1),
        )
    ]
    ring = _part("second", ellipse(0, 0.28, stem * 1.4, 0.07))
    return [_part("light", trunk), ring, _part("body", hood), *spots]


def _car(rng: Rng) -> list[Part]:
    roof, nose = rng.uniform(-0.55, -0.4), rng.uniform(0.4, 0.65)
    hull = polygon((-1, 0.3), (-0.97, -0.05), (-0.7, -0.1), (nose, -0.1), (0.95, 0.0), (1, 0.3))
    cabin = polygon((-0.72, -0.08), (-0.5, roof), (nose - 0.35, roof), (nose, -0.08))
    panes = [
        polygon((-0.6, -0.1), (-0.44, roof + 0.09), (-0.12, roof + 0.09), (-0.12, -0.1)),
        polygon(
            (-0.03, -0.1), (-0.03, roof + 0.09), (nose - 0.39, roof + 0.09), (nose - 0.1, -0.1)
        ),
    ]
    size = rng.uniform(0.19, 0.26)
    wheels = [
        _part(role, ellipse(x, 0.32, size * k, size * k))
        for x in (-0.57, 0.58)
        for role, k in (("dark", 1.0), ("light", 0.5))
    ]
    lamp = _part("accent", ellipse(0.93, 0.08, 0.06, 0.08))
    return [
        _part("body", cabin),
        _part("body", hull),
        *(_part("second", p) for p in panes),
        *wheels,
        lamp,
    ]


def _house(rng: Rng) -> list[Part]:
    half, eave = rng.uniform(0.55, 0.85), rng.uniform(-0.3, -0.05)
    ridge = rng.uniform(-0.25, 0.25)
    wall = polygon((-half, eave), (half, eave), (half, 0.85), (-half, 0.85))
    roof = polygon(
        (-half - 0.15, eave + 0.03),
        (ridge - 0.1, -0.9),
        (ridge + 0.1, -0.9),
        (half + 0.15, eave + 0.03),
    )
    chimney = polygon(
        (half * 0.5, -0.85),
        (half * 0.5 + 0.16, -0.85),
        (half * 0.5 + 0.16, eave),
        (half * 0.5, eave),
    )
    door = polygon((-0.13, 0.35), (0.13, 0.35), (0.13, 0.85), (-0.13, 0.85))
    panes = [
        polygon(
            (x - 0.13, eave + 0.2),
            (x + 0.13, eave + 0.2),
            (x + 0.13, eave + 0.48),
            (x - 0.13, eave + 0.48),
        )
        for x in (-half * 0.58, half * 0.58)
    ]
    return [
        _part("second", chimney), _part("body", wall), _part("accent", roof),
        _part("dark", door), *(_part("light", p) for p in panes),
    ]  # fmt: skip


def _mug(rng: Rng) -> list[Part]:
    half, taper = rng.uniform(0.45, 0.65), rng.uniform(0.8, 1.05)
    cup = polygon((-half, -0.75), (half, -0.75), (half * taper, 0.75), (half * taper * 0.8, 0.85),
                  (-half * taper * 0.8, 0.85), (-half * taper, 0.75))  # fmt: skip
    outer = ellipse(half, 0.0, 0.42, 0.5)
    inner = ellipse(half, 0.0, 0.25, 0.32)
    mouth, drink = ellipse(0, -0.75, half, 0.16), ellipse(0, -0.73, half * 0.85, 0.11)
    high = rng.uniform(0.1, 0.2)
    band = polygon(
        (-half * 0.97, -high), (half * 0.97, -high), (half * 0.97, high), (-half * 0.97, high)
    )
    heart = ellipse(0, 0.05, 0.22, 0.24)
    mark = _part("accent", band) if rng.random() < 0.5 else _part("accent", heart)
    return [
        _part("body", outer, inner), _part("body", cup),
        _part("light", mouth), _part("dark", drink), mark,
    ]  # fmt: skip


def _flower(rng: Rng) -> list[Part]:
    count, heart = int(rng.integers(5, 9)), rng.uniform(0.2, 0.3)
    cy = -0.3 if rng.random() < 0.7 else 0.0
    parts: list[Part] = []
    if cy < 0:
        parts.append(_part("second", limb((0, 0), (rng.uniform(-0.15, 0.15), 1.0), 0.06, 0.07)))
        leaf = smooth(polygon((0, 0.75), (0.25, 0.45), (0.6, 0.4), (0.35, 0.7)))
        parts.append(_part("second", leaf * np.array([rng.choice([-1, 1]), 1], np.float32)))
    for k in range(count):
        a = 2 * np.pi * k / count
        parts.append(
            _part(
                "body", ellipse(0.4 * np.cos(a), cy + 0.4 * np.sin(a), 0.3, 0.95 / count + 0.05, a)
            )
        )
    seeds = _part("dark", ellipse(0, cy, heart * 0.5, heart * 0.5))
    return [*parts, _part("accent", ellipse(0, cy, heart, heart)), seeds]


def _bird(rng: Rng) -> list[Part]:
    plump, perch = rng.uniform(0.36, 0.5), rng.uniform(-0.5, -0.35)
    trunk = ellipse(0, 0.05, 0.6, plump, 0.25)
    tail = polygon((-0.4, 0.0), (-1.0, -0.05), (-0.95, -0.3), (-0.4, -0.25))
    head = ellipse(0.5, perch, 0.27, 0.25)
    beak = polygon((0.7, perch - 0.1), (1.02, perch + 0.02), (0.7, perch + 0.12))
    wing = smooth(polygon((0.25, -0.05), (-0.1, -0.3), (-0.6, -0.15), (-0.35, 0.2), (0.1, 0.25)))
    legs = [limb((x, 0.4), (x + 0.06, 0.9), 0.04, 0.03) for x in (-0.1, 0.15)]
    return [
        *(_part("accent", leg) for leg in legs), _part("second", tail), _part("body", trunk),
        _part("body", head), _part("accent", beak), _part("second", wing),
        *_eye(0.55, perch - 0.05, 0.075),
    ]  # fmt: skip


OBJECTS: dict[str, Callable[[Rng], list[Part]]] = {
    "fish": _fish,
    "butterfly": _butterfly,
    "mushroom": _mushroom,
    "car": _car,
    "house": _house,
    "mug": _mug,
    "flower": _flower,
    "bird": _bird,
}
"""The class-bearing objects, in the order of their class ids 1, 2, ..."""


def creature(rng: Rng) -> list[Part]:
    """Return a class-less four-limbed thing.

    It teaches that limbs, head and trunk are one object.
    """
    long, deep = rng.uniform(0.4, 0.65), rng.uniform(0.22, 0.42)
    trunk = blob(rng, 0.08) * np.array([long, deep], np.float32)
    head_at = (long + rng.uniform(0, 0.15), rng.uniform(-0.5, 0.0))
    coat = "body" if rng.random() < 0.7 else "second"
    parts = [
        _part(
            coat,
            limb((x, deep * 0.3), (x + rng.uniform(-0.2, 0.2), rng.uniform(0.7, 0.95)), 0.11, 0.07),
        )
        for x in np.linspace(-long * 0.75, long * 0.75, int(rng.integers(2, 5)))
    ]
    parts.append(_part(coat, limb((-long * 0.8, 0), (-1, rng.uniform(-0.6, 0.4)), 0.1, 0.04)))
    parts.append(_part("body", trunk))
    parts.append(_part("body", limb((long * 0.7, 0), head_at, deep * 0.7, 0.12)))
    size = rng.uniform(0.17, 0.27)
    parts.append(_part("body", ellipse(*head_at, size * 1.2, size, rng.uniform(-0.5, 0.5))))
    if rng.random() < 0.5:
        parts.append(_part("second", blob(rng, 0.25) * np.float32(0.25)))
    return parts


def compound(rng: Rng) -> list[Part]:
    """Return a class-less body with one to four differently coloured pieces on or beside it."""
    parts = [_part("body", leaf(rng) * np.float32(0.75))]
    for _ in range(int(rng.integers(1, 5))):
        away = rng.uniform(-0.6, 0.6, 2)
        piece = leaf(rng) * np.float32(rng.uniform(0.12, 0.4)) + away.astype(np.float32)
        parts.insert(
            int(rng.integers(0, 2)),
            _part(str(rng.choice(["second", "accent", "dark", "light"])), piece),
        )
    return parts


def leaf(rng: Rng) -> Points:
    """Return a class-less outline: blob, ellipse, round or sharp polygon, bar, star, crescent."""
    kind = rng.integers(0, 7)
    if kind == 0:
        return blob(rng, rng.uniform(0.1, 0.3), int(rng.integers(3, 8)))
    if kind == 1:
        return ellipse(0, 0, 1, rng.uniform(0.35, 1))
    if kind in (2, 3):
        count = int(rng.integers(3, 8))
        t = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
        corners = rng.uniform(0.7, 1, count)[:, None] * np.stack([np.cos(t), np.sin(t)], 1)
        return smooth(corners.astype(np.float32)) if kind == 2 else corners.astype(np.float32)
    if kind == 4:
        tall = rng.uniform(0.12, 0.8)
        return polygon((-1, -tall), (1, -tall), (1, tall), (-1, tall))
    if kind == 5:
        t = np.linspace(0, 2 * np.pi, 2 * int(rng.integers(4, 8)), endpoint=False)
        radius = np.where(np.arange(len(t)) % 2 == 0, 1.0, rng.uniform(0.4, 0.7))
        return np.stack([radius * np.cos(t), radius * np.sin(t)], 1).astype(np.float32)
    t = np.linspace(-2.2, 2.2, 24)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    inner = np.stack([0.75 * np.cos(t) - rng.uniform(0.1, 0.3), 0.8 * np.sin(t)], 1)[::-1]
    return np.concatenate([outer, inner]).astype(np.float32)
