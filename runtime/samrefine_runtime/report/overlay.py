"""Pictures of masks and labels over their image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.image import RgbImage
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.masks.masks import Masks

_GOLDEN_RATIO = (5**0.5 - 1) / 2
"""Steps of this fraction of a circle never come close to an earlier hue."""


def draw_label(
    image: RgbImage,
    label: NDArray[np.uint8],
    *,
    palette: NDArray[np.uint8] = PALETTE,
    opacity: float = 0.55,
) -> RgbImage:
    """The image with each class tinted and outlined, (H, W, 3) uint8.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8, 0 is left as it is.
        palette: (K, 3) uint8, the colour of each class; classes beyond it are outlined only.
        opacity: of the tint, 0 to 1.
    """
    colours = palette[np.minimum(label, len(palette) - 1)]
    tinted = _blend(image, colours, (label > 0) & (label < len(palette)), opacity)
    tinted[edges(label)] = 255
    return tinted


def draw_masks(image: RgbImage, masks: Masks, *, opacity: float = 0.5) -> RgbImage:
    """The image with every mask in a colour of its own, small masks on top, (H, W, 3) uint8."""
    owner = np.zeros(masks.image_shape, np.int32)
    for index in np.argsort(-masks.areas, kind="stable"):
        owner[masks.dense(int(index))] = index + 1
    tinted = _blend(image, distinct_colours(len(masks))[owner], owner > 0, opacity)
    tinted[edges(owner)] = 255
    return tinted


def write_picture(path: str | Path, picture: RgbImage, *, quality: int = 90) -> None:
    """Save as JPEG or PNG, by the suffix. Raises OutputError."""
    form = "PNG" if Path(path).suffix.lower() == ".png" else "JPEG"
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, form, quality=quality)


def edges(regions: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour belongs to another region."""
    found = np.zeros(regions.shape, bool)
    found[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    found[:-1] |= regions[:-1] != regions[1:]
    return found


def distinct_colours(count: int) -> NDArray[np.uint8]:
    """Colours (count + 1, 3), the first black; neighbours in number differ in hue."""
    hue = (np.arange(count + 1) * _GOLDEN_RATIO % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 200), np.full_like(hue, 255)], axis=-1)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    rgb[0] = 0
    return np.asarray(rgb)


def _blend(
    image: RgbImage, colours: RgbImage, where: NDArray[np.bool_], opacity: float
) -> RgbImage:
    mixed = cv2.addWeighted(image, 1 - opacity, np.ascontiguousarray(colours), opacity, 0)
    return np.where(where[..., None], mixed, image).astype(np.uint8)
