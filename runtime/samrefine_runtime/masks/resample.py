"""Low-res mask logits to masks of the image, without ever holding a full-size stack.

The reference enlarges logits to the encoder's input size, cuts the padding off and resizes to the
image, both bilinear. Both steps are linear and separable, so together they are one banded matrix a
side: image = A L B^T, with about three non-zeros in a row. Only the window in which a mask's logits
can exceed the lowest threshold is computed, in strips of bounded memory, and threshold, stability
and run lengths are taken from it in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks import rle

Logits = NDArray[np.float32]
"""float32 mask logits, or a part of them."""

_BLOCK = 64
"""Rows of a band multiplied at once: they share one range of columns, so larger blocks multiply
more zeros and smaller ones call the matrix product more often."""

_STRIP_PIXELS = 1 << 21
"""Pixels of a strip of logits: 8 MiB as float32."""


@dataclass(frozen=True)
class Band:
    """A bilinear resampling along one side, as a matrix whose rows have few, adjacent non-zeros."""

    matrix: Logits
    """Weights (to, from)."""
    first: NDArray[np.intp]
    """First non-zero column of each row, (to,)."""
    last: NDArray[np.intp]
    """Last non-zero column of each row, (to,)."""

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Band:
        """Find the band of a dense matrix (to, from)."""
        used = matrix != 0
        return cls(
            matrix=matrix.astype(np.float32),
            first=used.argmax(axis=1),
            last=matrix.shape[1] - 1 - used[:, ::-1].argmax(axis=1),
        )

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the output range that inputs [start, stop) can change, empty if none."""
        touched = np.flatnonzero((self.last >= start) & (self.first < stop))
        return (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 0)

    def apply(self, values: Logits, start: int, stop: int) -> Logits:
        """Compute outputs [start, stop) of `values` (from, K), as (stop - start, K)."""
        out = np.empty((stop - start, values.shape[1]), np.float32)
        for row in range(start, stop, _BLOCK):
            end = min(row + _BLOCK, stop)
            used = slice(self.first[row], self.last[end - 1] + 1)
            np.dot(self.matrix[row:end, used], values[used], out=out[row - start : end - start])
        return out


def bilinear_matrix(size_from: int, size_to: int) -> NDArray[np.float64]:
    """Return the (to, from) weights of torch's `interpolate(mode="bilinear", align_corners=False)`.

    Positions are rounded to float32 where torch does, after a fused multiply-add: at 1024 pixels
    the rounding is visible.
    """
    # position (to,): input coordinate of each output pixel centre; float64 up to a single rounding
    # equals the fused multiply-add
    scale = np.float64(np.float32(size_from) / np.float32(size_to))
    position = ((np.arange(size_to) + 0.5) * scale - 0.5).astype(np.float32)
    position = np.maximum(position, np.float32(0))
    # low, high (to,): the two inputs that an output mixes, the same one at the far border
    low = np.minimum(position.astype(np.intp), size_from - 1)
    high = np.minimum(low + 1, size_from - 1)
    fraction = (position - low.astype(np.float32)).astype(np.float64)
    matrix = np.zeros((size_to, size_from))
    rows = np.arange(size_to)
    np.add.at(matrix, (rows, low), 1 - fraction)
    np.add.at(matrix, (rows, high), fraction)
    return matrix


class ImageMask(NamedTuple):
    """One mask at the shape of the image."""

    counts: rle.Counts
    """Run lengths in the whole image."""
    stability_score: float
    """Pixels above threshold + offset over pixels above threshold - offset; NaN without any."""
    image_shape: tuple[int, int]
    """(H, W) of the image, pixels."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """XYXY pixels of the image, right and bottom inclusive; zeros for an empty mask."""
        return rle.box(self.counts, self.image_shape[0])


class Window(NamedTuple):
    """A part of a crop: rows [top, bottom), columns [left, right), pixels."""

    top: int
    bottom: int
    left: int
    right: int


class MaskResampler:
    """Converts low-res logits of one crop to masks of the image."""

    def __init__(
        self,
        low_res_shape: tuple[int, ...],
        input_side: int,
        crop_box: tuple[int, int, int, int],
        image_shape: tuple[int, int],
    ):
        """Prepare the matrices.

        Args:
            low_res_shape: (h, w) of the decoder's logits.
            input_side: side of the encoder's square input, pixels.
            crop_box: XYXY of the part of the image that was encoded, right and bottom exclusive.
            image_shape: (H, W) of the image, pixels.
        """
        left, top, right, bottom = crop_box
        self.image_shape = image_shape
        self.origin = (top, left)
        self.crop_shape = (bottom - top, right - left)
        resized = resized_shape(self.crop_shape, input_side)
        # One matrix (crop side, low-res side) per axis: (crop, inside) resizes, (inside, low) is
        # the enlargement (input, low) without the rows of the padding
        self.rows, self.columns = (
            Band.of(bilinear_matrix(inside, to) @ bilinear_matrix(low, input_side)[:inside])
            for low, inside, to in zip(low_res_shape, resized, self.crop_shape, strict=True)
        )

    def logits(self, low_res: Logits) -> Logits:
        """Resample the logits (h, w) of one mask to the crop's shape (H, W), float32."""
        rows = self.rows.apply(low_res, 0, self.crop_shape[0])
        return self.columns.apply(rows.T, 0, self.crop_shape[1]).T

    def mask(self, low_res: Logits, threshold: float, stability_offset: float) -> ImageMask:
        """Compute one mask and its stability score from its low-res logits (h, w).

        Args:
            low_res: (h, w) float32 logits.
            threshold: logits above it are in the mask.
            stability_offset: shift of the threshold up and down for the stability score.
        """
        # The lowest of the three thresholds bounds the window
        window = self._window(low_res > threshold - stability_offset)
        above, below = 0, 0
        changes, last = [np.zeros(0, np.int64)], False
        for left, logits in self._strips(low_res, window):
            above += int(np.count_nonzero(logits > threshold + stability_offset))
            below += int(np.count_nonzero(logits > threshold - stability_offset))
            found, last = self._changes(logits > threshold, window, left, last)
            changes.append(found)
        # A run that reaches the window's last pixel ends there
        if last:
            changes.append(np.array([(self.origin[1] + window.right) * self.image_shape[0]]))
        # float32 as torch divides integers, so that scores compare alike with their threshold
        stability = np.float32(above) / np.float32(below) if below else np.nan
        counts = self._counts(np.concatenate(changes))
        return ImageMask(counts, float(stability), self.image_shape)

    def _window(self, positive: NDArray[np.bool_]) -> Window:
        """Find the part of the crop that low-res pixels `positive` (h, w) can change.

        Outside it every pixel is a weighted mean of logits below the threshold.
        """
        rows, columns = np.flatnonzero(positive.any(axis=1)), np.flatnonzero(positive.any(axis=0))
        if len(rows) == 0:
            return Window(0, 0, 0, 0)
        top, bottom = self.rows.reach(int(rows[0]), int(rows[-1]) + 1)
        left, right = self.columns.reach(int(columns[0]), int(columns[-1]) + 1)
        return Window(top, bottom, left, right)

    def _strips(self, low_res: Logits, window: Window) -> Iterator[tuple[int, Logits]]:
        """Yield the logits inside the window in strips of columns, each transposed.

        Yields:
            The strip's first column in the crop, and its logits (columns, rows) float32. This
            order is that of column-major run lengths.
        """
        if window.top == window.bottom or window.left == window.right:
            return
        # rows (window rows, w): A L, only in the columns of L that the window's columns read
        used = slice(self.columns.first[window.left], self.columns.last[window.right - 1] + 1)
        rows = np.zeros((window.bottom - window.top, low_res.shape[1]), np.float32)
        rows[:, used] = self.rows.apply(low_res[:, used], window.top, window.bottom)
        # Strip (columns, window rows): B (A L)^T, as many columns as fit the memory
        step = max(1, _STRIP_PIXELS // (window.bottom - window.top))
        for left in range(window.left, window.right, step):
            yield left, self.columns.apply(rows.T, left, min(left + step, window.right))

    def _changes(
        self, mask: NDArray[np.bool_], window: Window, left: int, last: bool
    ) -> tuple[NDArray[np.int64], bool]:
        """Find the positions at which a strip changes value.

        Args:
            mask: (columns, rows) bool, the strip.
            window: part of the crop from which the strip is.
            left: first column of the strip in the crop.
            last: last value of the strip before.

        Returns:
            Flat column-major image positions, ascending; and the last value of the strip.
        """
        height = self.image_shape[0]
        top, left = window.top + self.origin[0], left + self.origin[1]
        columns, rows = mask.shape
        # A row of zeros ends every column's last run where the window ends. A window as high as the
        # image needs none: its runs continue in the next column.
        if rows < height:
            padded = np.zeros((columns, rows + 1), bool)
            padded[:, :rows] = mask
            mask, rows = padded, rows + 1
        # flat (1 + columns * rows,): found is relative to the strip, then moved to the image
        flat = np.concatenate(([last], mask.reshape(-1)))
        found = np.flatnonzero(flat[1:] != flat[:-1])
        return (left + found // rows) * height + top + found % rows, bool(flat[-1])

    def _counts(self, changes: NDArray[np.int64]) -> rle.Counts:
        """Convert flat positions of changes to run lengths of the whole image."""
        pixels = self.image_shape[0] * self.image_shape[1]
        # Changes at the image's first position and past its last one start no run inside it
        starts_with_one = bool(len(changes) and changes[0] == 0)
        ends_with_one = bool(len(changes) and changes[-1] == pixels)
        inner = changes[starts_with_one : len(changes) - ends_with_one]
        return rle.counts_from_changes(inner, pixels, starts_with_one)
