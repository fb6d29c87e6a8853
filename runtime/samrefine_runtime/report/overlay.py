"""Pictures of masks and labels over their image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.image import RgbImage, row_strips
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.masks.masks import Masks

_LABEL_OPACITY = 0.55
"""A little above one half, so that VOC's dark colours stay distinct on a dark image."""

_MASK_OPACITY = 0.5
"""One half: mask colours are bright, and the image stays recognisable below them."""

_JPEG_QUALITY = 90
"""High enough that the one-pixel outlines stay sharp."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2
"""Steps of this fraction of a circle never come close to an earlier hue."""

_HUES = 180
"""Number of hues in OpenCV's uint8 HSV."""

_SATURATION, _BRIGHTNESS = 200, 255
"""Of the hues, 0 to 255: bright and clearly distinct."""


def draw_label(
    image: RgbImage,
    label: NDArray[np.uint8],
    *,
    palette: NDArray[np.uint8] = PALETTE,
    opacity: float = _LABEL_OPACITY,
) -> RgbImage:
    """Tint and outline each class of a label on its image.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8; 0 is not tinted.
        palette: (K, 3) uint8 RGB, the colour of each class; classes beyond it are outlined only.
        opacity: of the tint, 0 to 1.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    tinted = image.copy()
    for rows in row_strips(label.shape):
        strip = label[rows]
        # Clip classes beyond the palette to look them up; they are not tinted
        colours = palette[np.minimum(strip, len(palette) - 1)]
        _tint(tinted[rows], colours, (strip > 0) & (strip < len(palette)), opacity)
        tinted[rows][_edges(label, rows)] = 255
    return tinted


def draw_masks(image: RgbImage, masks: Masks, *, opacity: float = _MASK_OPACITY) -> RgbImage:
    """Tint each mask on its image in a separate colour, small masks on top, (H, W, 3) uint8."""
    # owner (H, W): the mask drawn at each pixel counted from 1, 0 for none; largest first
    owner = np.zeros(masks.image_shape, np.int32)
    for index in np.argsort(-masks.areas, kind="stable"):
        owner[masks.dense(int(index))] = index + 1
    tinted, colours = image.copy(), distinct_colours(len(masks))
    for rows in row_strips(masks.image_shape):
        _tint(tinted[rows], colours[owner[rows]], owner[rows] > 0, opacity)
        tinted[rows][_edges(owner, rows)] = 255
    return tinted


def write_picture(path: str | Path, picture: RgbImage, *, quality: int = _JPEG_QUALITY) -> None:
    """Write a picture as PNG if the suffix is .png, else as JPEG. Raises OutputError."""
    form = "PNG" if Path(path).suffix.lower() == ".png" else "JPEG"
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, form, quality=quality)


def edges(regions: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Find the pixels (H, W) bool whose right or lower neighbour belongs to another region."""
    found = np.zeros(regions.shape, bool)
    found[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    found[:-1] |= regions[:-1] != regions[1:]
    return found


def distinct_colours(count: int) -> NDArray[np.uint8]:
    """Return colours (count + 1, 3) uint8 RGB, black first; successive ones differ in hue."""
    hue = (np.arange(count + 1) * _GOLDEN_RATIO % 1 * _HUES).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, _SATURATION), np.full_like(hue, _BRIGHTNESS)], axis=-1)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    rgb[0] = 0
    return np.asarray(rgb)


def _edges(regions: NDArray[np.generic], rows: slice) -> NDArray[np.bool_]:
    """Return some rows of `edges(regions)`."""
    # One more row, with which the last one is compared
    return edges(regions[rows.start : rows.stop + 1])[: rows.stop - rows.start]


def _tint(image: RgbImage, colours: RgbImage, where: NDArray[np.bool_], opacity: float) -> None:
    """Mix colours (H, W, 3) into an image, in place."""
    mixed = cv2.addWeighted(image, 1 - opacity, np.ascontiguousarray(colours), opacity, 0)
    np.copyto(image, mixed, where=where[..., None])
