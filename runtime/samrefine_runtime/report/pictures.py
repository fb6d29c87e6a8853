"""The report's small pictures: an image, and transparent layers to lay over it.

In a layer, regions are half transparent and outlines opaque: the page makes the halves stronger
or weaker without touching outlines, from the same picture.
"""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from samrefine_runtime.cam import CamResult
from samrefine_runtime.image import RgbImage
from samrefine_runtime.labels import IGNORE, PALETTE, LabelMap
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import distinct_colours, edges

LARGE_RUN = 400
"""images above which pictures are smaller, so that thousands fit into one page"""

HALF = 128
"""alpha of a region"""

_CAM_SIDE = 96
_CAM_LEVELS = 40
_CAM_CLASSES = 3
_STRIPE = 6

Layer = NDArray[np.uint8]
"""(h, w, 4) uint8 RGBA"""


def picture_side(images: int) -> int:
    """Longer side, pixels, of the pictures of a report on so many images."""
    return 320 if images <= LARGE_RUN else 224


def small_size(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(h, w) of the pictures of an image (H, W, ...): the longer side is at most `side`."""
    scale = min(1.0, side / max(size[:2]))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def image_picture(image: RgbImage, side: int) -> str:
    """The image (H, W, 3) as a data URI."""
    height, width = small_size(image.shape, side)
    full = Image.fromarray(image)
    small = full.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _data_uri(small, "WEBP" if features.check("webp") else "JPEG", quality=60)


def label_picture(label: LabelMap, side: int) -> str:
    """A label map (H, W) in VOC's colours as a data URI; 255 is striped."""
    small = _sampled(label, side)
    layer = _layer(PALETTE[small], small > 0)
    diagonal = np.add.outer(np.arange(small.shape[0]), np.arange(small.shape[1]))
    stripe = diagonal % _STRIPE < _STRIPE // 2
    layer[(small == IGNORE) & stripe] = (255, 255, 255, HALF)
    layer[(small == IGNORE) & ~stripe] = (70, 70, 80, HALF)
    # Void rings objects in ground truth: it is outline enough.
    near_void = cv2.dilate((small == IGNORE).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    layer[edges(small) & ~near_void] = 255
    return _layer_uri(layer)


def mask_picture(masks: Masks, side: int) -> str:
    """All masks, each in a colour of its own, small ones on top, as a data URI."""
    owner = _owners(masks, side)
    layer = _layer(distinct_colours(len(masks))[owner], owner > 0)
    layer[edges(owner)] = 255
    return _layer_uri(layer)


def cam_picture(cam: CamResult) -> str:
    """The strongest classes' maps as one heat map, as a data URI; coarse, as the maps are."""
    strongest = np.argsort(-cam.probabilities[cam.classes - 1], kind="stable")[:_CAM_CLASSES]
    heat = cam.maps[strongest].max(axis=0, initial=0)
    height, width = small_size(heat.shape, _CAM_SIDE)
    small = cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA)
    level = np.rint(np.clip(small, 0, 1) * _CAM_LEVELS) / _CAM_LEVELS
    brightness = (255 * level).astype(np.uint8)
    colours = cv2.applyColorMap(brightness, cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = np.rint(HALF * np.minimum(1.5 * level, 1)).astype(np.uint8)
    return _layer_uri(np.dstack([colours, alpha]))


def _sampled(label: LabelMap, side: int) -> LabelMap:
    rows, columns = _sample_points(label.shape, side)
    return label[rows[:, None], columns]


def _sample_points(size: tuple[int, ...], side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (h,) and columns (w,) of the image that its pictures show."""
    height, width = small_size(size, side)
    rows = (np.arange(height) * 2 + 1) * size[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * size[1] // (2 * width)
    return rows, columns


def _owners(masks: Masks, side: int) -> NDArray[np.int32]:
    """The smallest mask at each pixel of the picture counted from 1, 0 where there is none.

    Run lengths are looked up at the sampled pixels only: no mask is unpacked at full size.
    """
    rows, columns = _sample_points(masks.image_shape, side)
    sampled = (columns[:, None] * masks.image_shape[0] + rows).reshape(-1)
    starts, ends, owner = masks.spans()
    order = np.argsort(-masks.areas[owner], kind="stable")
    starts, ends = np.searchsorted(sampled, starts[order]), np.searchsorted(sampled, ends[order])
    found = np.zeros(len(sampled), np.int32)
    for start, end, mask in zip(starts.tolist(), ends.tolist(), owner[order].tolist(), strict=True):
        found[start:end] = mask + 1
    return np.ascontiguousarray(found.reshape(len(columns), len(rows)).T)


def _layer(colours: RgbImage, where: NDArray[np.bool_]) -> Layer:
    return np.dstack([colours * where[..., None], where * np.uint8(HALF)]).astype(np.uint8)


def _layer_uri(layer: Layer) -> str:
    image = Image.fromarray(layer)
    if features.check("webp"):
        return _data_uri(image, "WEBP", lossless=True, method=2)
    return _data_uri(image, "PNG")


def _data_uri(image: Image.Image, form: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"
