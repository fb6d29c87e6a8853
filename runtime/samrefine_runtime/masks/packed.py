"""Masks as a device finishes them: one bit a pixel, measured there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.masks import rle

PIXELS_PER_BYTE = 8
"""Pixels of a row side by side that share a byte, the first in its highest bit."""


@dataclass(frozen=True)
class PackedMask:
    """One mask of a crop of the image; it is unpacked when its run lengths are asked for."""

    bits: NDArray[np.uint8]
    """(rows, bytes of a row) uint8, those that the box touches; see PIXELS_PER_BYTE."""
    box_in_crop: tuple[int, int, int, int]
    """XYXY pixels of the crop, right and bottom inclusive; zeros for an empty mask."""
    pixel_counts: NDArray[np.int32]
    """(3,) pixels above the threshold plus the stability score's offset, the threshold, and the
    threshold less the offset."""
    origin: tuple[int, int]
    """(top, left) of the crop, pixels of the image."""
    image_shape: tuple[int, int]
    """(H, W) of the image, pixels."""

    @classmethod
    def of(
        cls,
        bits: NDArray[np.uint8],
        box: NDArray[np.int32],
        pixel_counts: NDArray[np.int32],
        *,
        origin: tuple[int, int],
        image_shape: tuple[int, int],
    ) -> PackedMask:
        """Take one mask out of many.

        Args:
            bits: (crop height, bytes of a row) uint8; what lies outside the box is not kept.
            box: (4,) XYXY, see `box_in_crop`.
            pixel_counts: (3,).
            origin: (top, left) of the crop.
            image_shape: (H, W).
        """
        left, top, right, bottom = box.tolist()
        columns = slice(left // PIXELS_PER_BYTE, right // PIXELS_PER_BYTE + 1)
        own = bits[top : bottom + 1, columns].copy()
        return cls(own, (left, top, right, bottom), pixel_counts, origin, image_shape)

    @property
    def stability_score(self) -> float:
        """Pixels above threshold + offset over those above threshold - offset; NaN without any."""
        above, _, below = self.pixel_counts
        # float32 as torch divides integers, so that scores compare alike with their threshold
        return float(np.float32(above) / np.float32(below)) if below else float("nan")

    @property
    def box(self) -> tuple[int, int, int, int]:
        """XYXY pixels of the image, right and bottom inclusive; zeros for an empty mask."""
        if self.pixel_counts[1] == 0:
            return 0, 0, 0, 0
        top, left = self.origin
        x0, y0, x1, y1 = self.box_in_crop
        return x0 + left, y0 + top, x1 + left, y1 + top

    @cached_property
    def counts(self) -> rle.Counts:
        """Run lengths in the whole image."""
        mask = np.zeros(self.image_shape, bool)
        top, left = self.origin
        x0, y0, x1, y1 = self.box_in_crop
        # The first byte may begin left of the box
        before = x0 % PIXELS_PER_BYTE
        pixels = np.unpackbits(self.bits, axis=1)[:, before : before + x1 + 1 - x0]
        mask[top + y0 : top + y1 + 1, left + x0 : left + x1 + 1] = pixels
        return rle.encode(mask)
