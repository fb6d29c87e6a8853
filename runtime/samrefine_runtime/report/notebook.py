"""The pictures of results that notebooks show by themselves."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from samrefine_runtime.image import RgbImage
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import distinct_colours, draw_label, edges
from samrefine_runtime.report.pictures import owners, picture_shape, sampled

_SIDE = 360
"""Longer side of each picture, pixels: four of them beside each other fit a notebook's width."""

_GAP = 8
"""Pixels of white between pictures."""

_GRAY = 128
"""Value of the image where it is not known."""


def masks_png(masks: Masks) -> bytes:
    """Draw masks on black, each in a separate colour, small ones on top."""
    return _png(_masks(masks))


def labels_png(
    image: RgbImage | None, pseudo_label: LabelMap, masks: Masks, label: LabelMap
) -> bytes:
    """Draw the steps of a refinement side by side: image, pseudo label, masks, refined label.

    Args:
        image: (H, W, 3) uint8 RGB; None if it is not known, labels are then drawn on gray.
        pseudo_label: (H, W) uint8.
        masks: of the same image.
        label: (H, W) uint8.
    """
    shape = picture_shape(label.shape, _SIDE)
    if image is None:
        small: RgbImage = np.full((*shape, 3), _GRAY, np.uint8)
    else:
        small = np.asarray(Image.fromarray(image).resize(shape[::-1], reducing_gap=2.0))
    before, after = (draw_label(small, sampled(each, _SIDE)) for each in (pseudo_label, label))
    gap = np.full((shape[0], _GAP, 3), 255, np.uint8)
    return _png(np.hstack([small, gap, before, gap, _masks(masks), gap, after]))


def _masks(masks: Masks) -> RgbImage:
    """Draw masks on black, (h, w, 3) uint8 RGB."""
    owner = owners(masks, _SIDE)
    picture = distinct_colours(len(masks))[owner]
    picture[edges(owner)] = 255
    return picture


def _png(picture: RgbImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
