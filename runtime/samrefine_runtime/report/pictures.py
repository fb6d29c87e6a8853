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

PICTURE_SIDE = 320
"""Longer side of a picture, pixels: about what a column of the page shows on a wide screen."""

LARGE_RUN = 400
"""Number of images above which pictures are smaller, so that more images fit into one page."""

_SMALL_PICTURE_SIDE = 224
"""Longer side, pixels, in the report of a large run: half the area of PICTURE_SIDE."""

HALF = 128
"""Alpha of a region, 0 to 255; the page maps it to the strength that the reader chooses."""

_IMAGE_QUALITY = 60
"""WebP or JPEG quality of the image, which takes most of an entry's bytes."""

_WEBP_EFFORT = 2
"""WebP's effort for layers, 0 to 6: low, since every image of a run is encoded."""

_REDUCING_GAP = 2.0
"""Pillow's own choice for thumbnails: shrinks by whole factors first, close to exact."""

_CAM_SIDE = 96
"""Longer side of the CAM's picture, pixels: CAMs are interpolated from a coarser grid anyway."""

_CAM_LEVELS = 40
"""Heat levels: not visibly stepped, and few enough for lossless compression to work well."""

_CAM_CLASSES = 3
"""Classes in the CAM's picture, as many as the page's caption names."""

_CAM_FULL_TINT = 2 / 3
"""Activation from which the heat map is fully tinted; below, it fades out."""

_STRIPE = 6
"""Pixels from one stripe to the next of pixels of no class."""

_STRIPE_COLOURS = (255, 255, 255), (70, 70, 80)
"""RGB; white and dark gray, which VOC's palette has for no class."""

_OUTLINE = 255
"""White and opaque: the value of all four channels."""

Layer = NDArray[np.uint8]
"""(h, w, 4) uint8 RGBA."""


def picture_side(images: int) -> int:
    """Return the longer side, in pixels, of the pictures in a report on that many images."""
    return PICTURE_SIDE if images <= LARGE_RUN else _SMALL_PICTURE_SIDE


def picture_shape(image_shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the shape (h, w) of the pictures of an image (H, W): at most `side` pixels long."""
    height, width = image_shape
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def image_picture(image: RgbImage, side: int) -> str:
    """Shrink an image (H, W, 3) uint8 RGB to a data URI."""
    height, width = picture_shape(image.shape[:2], side)
    small = Image.fromarray(image).resize(
        (width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP
    )
    form = "WEBP" if features.check("webp") else "JPEG"
    return _data_uri(small, form, quality=_IMAGE_QUALITY)


def label_picture(label: LabelMap, side: int) -> str:
    """Draw a label map (H, W) uint8 in VOC's colours to a data URI; 255 is striped."""
    small = _sampled(label, side)
    # Tint the classes
    layer = _layer(PALETTE[small], small > 0)
    # Stripe the pixels of no class
    is_void = small == IGNORE
    diagonal = np.add.outer(np.arange(small.shape[0]), np.arange(small.shape[1]))
    is_bright = diagonal % _STRIPE < _STRIPE // 2
    bright, dark = _STRIPE_COLOURS
    layer[is_void & is_bright] = (*bright, HALF)
    layer[is_void & ~is_bright] = (*dark, HALF)
    # Outline regions, except beside void: in VOC's ground truth, it outlines the objects already
    near_void = cv2.dilate(is_void.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    layer[edges(small) & ~near_void] = _OUTLINE
    return _layer_uri(layer)


def mask_picture(masks: Masks, side: int) -> str:
    """Draw all masks to a data URI, each in a separate colour, small ones on top."""
    owner = _owners(masks, side)
    layer = _layer(distinct_colours(len(masks))[owner], owner > 0)
    layer[edges(owner)] = _OUTLINE
    return _layer_uri(layer)


def cam_picture(cam: CamResult) -> str:
    """Draw the strongest classes' maps to a data URI, as one heat map."""
    # Join the maps of the most probable classes, (h, w)
    strongest = np.argsort(-cam.probabilities[cam.classes - 1], kind="stable")[:_CAM_CLASSES]
    heat = cam.low_res_maps[strongest].max(axis=0, initial=0)
    # Shrink, from the shape that was classified: at the image's it would be the same picture
    height, width = picture_shape(cam.image_shape, _CAM_SIDE)
    small = cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA)
    # Quantise
    level = np.rint(np.clip(small, 0, 1) * _CAM_LEVELS) / _CAM_LEVELS
    # Colour; where nothing is active, the layer is transparent
    brightness = (255 * level).astype(np.uint8)
    colours = cv2.applyColorMap(brightness, cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = np.rint(HALF * np.minimum(level / _CAM_FULL_TINT, 1)).astype(np.uint8)
    return _layer_uri(np.dstack([colours, alpha]))


def _sampled(label: LabelMap, side: int) -> LabelMap:
    rows, columns = _sample_points(label.shape, side)
    return label[rows[:, None], columns]


def _sample_points(
    image_shape: tuple[int, int], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows (h,) and columns (w,) of an image (H, W) that its pictures sample."""
    height, width = picture_shape(image_shape, side)
    # The centre (i + 1/2) * H / h of each picture pixel, in whole numbers
    rows = (np.arange(height) * 2 + 1) * image_shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * image_shape[1] // (2 * width)
    return rows, columns


def _owners(masks: Masks, side: int) -> NDArray[np.int32]:
    """Find the smallest mask at each pixel (h, w) of the picture, from 1; 0 where there is none.

    Runs are looked up at the sampled pixels only: no mask is decoded at full size.
    """
    # sampled (w * h,): indices into the column-major image, as runs count, in ascending order
    rows, columns = _sample_points(masks.image_shape, side)
    sampled = (columns[:, None] * masks.image_shape[0] + rows).reshape(-1)
    spans = masks.spans().at(sampled)
    # Paint the runs of large masks first
    order = np.argsort(-masks.areas[spans.owner], kind="stable")
    found = np.zeros(len(sampled), np.int32)
    for start, end, mask in zip(*(each[order].tolist() for each in spans), strict=True):
        found[start:end] = mask + 1
    return np.ascontiguousarray(found.reshape(len(columns), len(rows)).T)


def _layer(colours: RgbImage, where: NDArray[np.bool_]) -> Layer:
    return np.dstack([colours * where[..., None], where * np.uint8(HALF)]).astype(np.uint8)


def _layer_uri(layer: Layer) -> str:
    image = Image.fromarray(layer)
    if features.check("webp"):
        return _data_uri(image, "WEBP", lossless=True, method=_WEBP_EFFORT)
    return _data_uri(image, "PNG")


def _data_uri(image: Image.Image, form: str, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"
