"""The report's small pictures, and what their pixels sample."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from samrefine_runtime.image import RgbImage
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks, Spans, strips

PICTURE_SIDE = 480
"""Longer side of a picture, pixels: sharp in the page's columns, on dense screens too."""

LARGE_RUN = 400
"""Number of images above which pictures are smaller, so that more images fit into one page."""

_SMALL_PICTURE_SIDE = 240
"""Longer side, pixels, in the report of a large run: a quarter of the area of PICTURE_SIDE."""

_IMAGE_QUALITY = 60
"""WebP or JPEG quality of the image, which takes most of an entry's bytes."""

_REDUCING_GAP = 2.0
"""Pillow's own choice for thumbnails: shrinks by whole factors first, close to exact."""


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
    buffer = io.BytesIO()
    small.save(buffer, form, quality=_IMAGE_QUALITY)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"


def sampled(label: LabelMap, side: int) -> LabelMap:
    """Return the label (h, w) uint8 of a picture's pixels."""
    rows, columns = _sample_points(label.shape, side)
    return label[rows[:, None], columns]


def owners(masks: Masks, side: int) -> NDArray[np.uint16]:
    """Find the smallest mask at each pixel (h, w) of the picture, from 1; 0 where there is none."""
    return _topmost(masks, -masks.areas, side)


def surest(masks: Masks, side: int) -> NDArray[np.uint16]:
    """Find the mask of the highest predicted IoU at each pixel, as `owners` does the smallest."""
    return _topmost(masks, masks.predicted_iou, side)


def _topmost(masks: Masks, height: NDArray[np.generic], side: int) -> NDArray[np.uint16]:
    """Find the mask of the greatest height (N,) at each pixel (h, w), from 1; 0 for none.

    Runs are looked up at the sampled pixels only: no mask is decoded at full size.
    """
    # flat (w * h,): the picture column by column, as runs count
    rows, columns = _sample_points(masks.image_shape, side)
    flat = np.zeros(len(columns) * len(rows), np.uint16)
    spans = masks.spans()
    # Paint the runs of low masks first
    spans = Spans(*(each[np.argsort(height[spans.owner], kind="stable")] for each in spans))
    for strip in strips(len(flat)):
        pixels = np.arange(strip.start, strip.stop)
        column, row = np.divmod(pixels, len(rows))
        found = spans.at(columns[column] * masks.image_shape[0] + rows[row])
        part = flat[strip]
        for start, end, mask in zip(*(each.tolist() for each in found), strict=True):
            part[start:end] = mask + 1
    return np.ascontiguousarray(flat.reshape(len(columns), len(rows)).T)


def _sample_points(
    image_shape: tuple[int, int], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows (h,) and columns (w,) of an image (H, W) that its pictures sample."""
    height, width = picture_shape(image_shape, side)
    # The centre (i + 1/2) * H / h of each picture pixel, in whole numbers
    rows = (np.arange(height) * 2 + 1) * image_shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * image_shape[1] // (2 * width)
    return rows, columns
