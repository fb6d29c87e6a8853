"""Textures, colours, shading and camera effects of procedural scenes: numpy and OpenCV only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Rng = np.random.Generator

_BANK_SIDE = 384
_HUES = (0.02, 0.07, 0.1, 0.13, 0.22, 0.3, 0.36, 0.55, 0.6, 0.63, 0.9)


@lru_cache(maxsize=1)
def _noise_bank() -> Field:
    """Return noise (12, 384, 384) of zero mean, about -1 to 1, from nearly white to clouds."""
    rng = np.random.default_rng(20)
    fy, fx = np.meshgrid(np.fft.fftfreq(_BANK_SIDE), np.fft.rfftfreq(_BANK_SIDE), indexing="ij")
    frequency = np.maximum(np.hypot(fy, fx), 1 / _BANK_SIDE)
    fields = []
    for steepness in np.linspace(0.4, 2.0, 12):
        spectrum = np.fft.rfft2(rng.normal(size=(_BANK_SIDE, _BANK_SIDE))) / frequency**steepness
        spectrum[0, 0] = 0
        field = np.fft.irfft2(spectrum, s=(_BANK_SIDE, _BANK_SIDE))
        fields.append(np.clip(field / (2 * field.std()), -1.5, 1.5))
    return np.array(fields, np.float32)


def noise(rng: Rng, shape: tuple[int, int], roughness: float | None = None) -> Field:
    """Return noise (H, W), about -1 to 1; `roughness` 0 is smooth clouds, 1 nearly white."""
    bank = _noise_bank()
    pick = rng.uniform() if roughness is None else roughness
    field = bank[min(int((1 - pick) * len(bank)), len(bank) - 1)]
    high = int(rng.integers(64, _BANK_SIDE + 1))
    wide = int(np.clip(high * rng.uniform(0.4, 2.5), 48, _BANK_SIDE))
    y, x = rng.integers(0, _BANK_SIDE - high + 1), rng.integers(0, _BANK_SIDE - wide + 1)
    crop = field[y : y + high, x : x + wide]
    if rng.random() < 0.5:
        crop = crop.T
    return np.asarray(cv2.resize(crop, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def texture(rng: Rng, shape: tuple[int, int], pixel: float) -> Field:
    """Return a pattern (H, W), -1 to 1; `pixel` is the length in pixels of one scene unit."""
    kind = rng.choice(["clouds", "grain", "stripes", "dots", "checks", "patches", "plain"],
                      p=[0.25, 0.22, 0.13, 0.07, 0.05, 0.13, 0.15])  # fmt: skip
    if kind == "plain":
        return np.zeros(shape, np.float32)
    if kind in ("clouds", "grain"):
        return noise(rng, shape, rng.uniform(0, 0.5) if kind == "clouds" else rng.uniform(0.5, 1))
    if kind == "patches":
        return np.tanh(rng.uniform(3, 10) * noise(rng, shape, rng.uniform(0, 0.35)))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), pixel * rng.uniform(0.03, 0.12)
    warp = noise(rng, shape, 0.1) * period * rng.uniform(0, 0.8)
    u = (x * np.cos(angle) + y * np.sin(angle) + warp) * (2 * np.pi / period)
    v = (y * np.cos(angle) - x * np.sin(angle) + warp) * (2 * np.pi / period)
    sharp = rng.uniform(1, 4)
    if kind == "stripes":
        return np.tanh(sharp * np.sin(u)).astype(np.float32)
    if kind == "checks":
        return np.tanh(sharp * np.sin(u) * np.sin(v)).astype(np.float32)
    return np.tanh(3 * sharp * (np.sin(u) + np.sin(v) - 1.2)).astype(np.float32)


def colour(rng: Rng, vivid: float = 0.3) -> Field:
    """Return an RGB colour (3,), 0 to 1: mostly muted, a fraction `vivid` of them saturated."""
    if rng.random() < vivid:
        hsv = (rng.uniform(0, 360), rng.uniform(0.45, 0.95), rng.uniform(0.4, 1.0))
    else:
        hue = (rng.choice(_HUES) + rng.normal(0, 0.02)) % 1 * 360
        hsv = (hue, rng.beta(1.6, 3.5), rng.uniform(0.08, 0.95))
    return np.asarray(
        cv2.cvtColor(np.array([[hsv]], np.float32), cv2.COLOR_HSV2RGB)[0, 0], np.float32
    )


@dataclass(frozen=True)
class Look:
    """The surface of one part."""

    base: Field
    """RGB (3,), 0 to 1."""
    other: Field
    """The colour its texture runs to."""
    contrast: float
    """Share of `other` at the texture's extremes, 0 to 1."""
    bevel: float
    """Darkening towards the outline, 0 flat to 1 round."""
    slope: tuple[float, float]
    """Brightness gained across the part in x and y."""
    gloss: float
    """Strength of the highlight, 0 for a dull surface."""


def look(rng: Rng, base: Field, light: tuple[float, float]) -> Look:
    """Return a random surface around the colour `base`, lit from direction `light` (x, y)."""
    if rng.random() < 0.2:
        other = colour(rng)
    else:
        other = np.clip(base * rng.uniform(0.45, 1.5) + rng.normal(0, 0.04, 3), 0, 1).astype(
            np.float32
        )
    slope = rng.uniform(0, 0.45)
    gloss = rng.uniform(0.2, 0.7) if rng.random() < 0.2 else 0.0
    bevel = rng.uniform(0.1, 0.7) if rng.random() < 0.6 else 0.0
    return Look(
        base, other, rng.uniform(0.1, 0.9), bevel, (-light[0] * slope, -light[1] * slope), gloss
    )


def surface(rng: Rng, skin: Look, alpha: Field, pixel: float) -> Field:
    """Return the colour (H, W, 3), about 0 to 1, of a part covering `alpha` (H, W), 0 to 1."""
    shape = alpha.shape[0], alpha.shape[1]
    # Texture between two colours
    mix = (0.5 + 0.5 * texture(rng, shape, pixel)) * skin.contrast
    paint = skin.base + mix[..., None] * (skin.other - skin.base)
    # Shading: a slope, darker towards the outline, a highlight
    y = np.linspace(-0.5, 0.5, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, shape[1], dtype=np.float32)[None]
    shade = 1 + skin.slope[0] * x + skin.slope[1] * y
    if skin.bevel and min(shape) > 3:
        inside = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        shade = shade * (1 - skin.bevel * np.exp(-inside / (0.35 * inside.max() + 1e-3)))
    shaded = paint * shade[..., None]
    if skin.gloss:
        cy, cx = rng.uniform(-0.3, 0.1, 2)
        shaded += (skin.gloss * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) * 40))[..., None]
    return np.asarray(shaded, np.float32)


def develop(rng: Rng, light: Field) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) uint8 of the scene `light` (H, W, 3): lens, sensor and JPEG."""
    # Uneven light and vignette
    shape = light.shape[:2]
    field = 1 + rng.uniform(0, 0.35) * noise(rng, (shape[0], shape[1]), 0.0)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    field = field * (1 - rng.uniform(0, 0.25) * (y[:, None] ** 2 + x[None] ** 2))
    # Exposure and colour cast
    exposure = np.clip(rng.uniform(0.25, 0.55) / (light.mean() + 1e-3), 0.6, 2.5)
    cast = exposure * (1 + rng.normal(0, 0.06, 3))
    image = np.clip(light * field[..., None] * cast, 0, 2).astype(np.float32)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.1))
    # Tone curve, sensor noise that grows with the light, rounding
    image = np.clip(image, 0, None) ** rng.uniform(0.75, 1.25) * rng.uniform(0.8, 1.1)
    image += rng.normal(0, rng.uniform(0.004, 0.03), image.shape) * np.sqrt(np.clip(image, 0.02, 1))
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    # JPEG artefacts
    if rng.random() < 0.7:
        quality = [int(cv2.IMWRITE_JPEG_QUALITY), int(rng.integers(50, 96))]
        _, packed = cv2.imencode(".jpg", pixels[..., ::-1], quality)
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return np.ascontiguousarray(pixels)
