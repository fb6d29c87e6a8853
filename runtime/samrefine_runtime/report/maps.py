"""Maps as text, without loss: which class, mask or heat level each pixel of an image has.

The page draws them in any colours and at any zoom. A row is stored as its difference to the row
above it, so that what is alike costs next to nothing: a label of VOC's size takes about 2 kB.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.image import row_strips
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.pictures import owners, picture_shape, sampled

LABEL_SIDE = 4096
"""Longer side of a label's map, pixels: larger ones are sampled, so that a phone can hold them."""

MASK_SIDE = 800
"""Longer side of the masks' map, pixels: SAM draws masks of 256 pixels, and enlarges them."""

CAM_LEVELS = 40
"""Heat levels: not visibly stepped, and few enough to compress well."""

_CAM_SIDE = 96
"""Longer side of the CAM's map, pixels: CAMs are interpolated from a coarser grid anyway."""

_CAM_CLASSES = 3
"""Classes in the CAM's map, as many as the page's caption names."""

_BITS = 8
"""Of a plane: the low or the high byte of all values."""

EncodedMap = dict[str, Any]
"""`shape`, [h, w]; `planes`, 1 or 2; `data`, base64 of a zlib stream of the low bytes (h, w), then
of the high bytes, each row XORed with the row above it in its plane."""


def label_map(label: LabelMap) -> EncodedMap:
    """Encode a label (H, W) uint8, in its own shape up to LABEL_SIDE."""
    return encode(label if max(label.shape) <= LABEL_SIDE else sampled(label, LABEL_SIDE))


def mask_map(masks: Masks) -> EncodedMap:
    """Encode which mask is at each pixel, from 1; the smallest where several are, 0 for none."""
    return encode(owners(masks, MASK_SIDE))


def cam_map(cam: CamResult) -> EncodedMap:
    """Encode the maps of the strongest classes as one heat map of levels 0 to CAM_LEVELS."""
    # Join the maps of the most probable classes, (h, w)
    strongest = np.argsort(-cam.probabilities[cam.classes - 1], kind="stable")[:_CAM_CLASSES]
    heat = cam.low_res_maps[strongest].max(axis=0, initial=0)
    # Shrink, from the shape that was classified: at the image's it would be the same picture
    height, width = picture_shape(cam.image_shape, _CAM_SIDE)
    small = cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA)
    return encode(np.rint(np.clip(small, 0, 1) * CAM_LEVELS).astype(np.uint8))


def encode(values: NDArray[np.uint8] | NDArray[np.uint16]) -> EncodedMap:
    """Encode a map (h, w)."""
    planes = 1 if values.max(initial=0) < 1 << _BITS else 2
    packer = zlib.compressobj()
    packed = [packer.compress(rows) for plane in range(planes) for rows in _rows(values, plane)]
    data = base64.b64encode(b"".join([*packed, packer.flush()])).decode()
    return {"shape": list(values.shape), "planes": planes, "data": data}


def _rows(values: NDArray[np.uint8] | NDArray[np.uint16], plane: int) -> Iterator[bytes]:
    """Yield the rows of one plane in strips, each row XORed with the one above it."""
    for rows in row_strips((values.shape[0], values.shape[1])):
        # Take one more row, above the strip
        top = max(rows.start - 1, 0)
        above = (values[top : rows.stop] >> (_BITS * plane)).astype(np.uint8)
        changes = above.copy()
        changes[1:] ^= above[:-1]
        yield changes[rows.start - top :].tobytes()
