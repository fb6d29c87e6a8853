"""From low-res logits to masks of the image: on the CPU one by one, on a device all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends import Session
from samrefine_runtime.errors import InferenceError
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.packed import PIXELS_PER_BYTE, PackedMask
from samrefine_runtime.masks.resample import ImageMask, MaskResampler
from samrefine_runtime.sam.point_decoder import LowResMasks


class FinishedMask(Protocol):
    """One mask of the image, measured."""

    @property
    def stability_score(self) -> float:
        """Pixels above threshold + offset over those above threshold - offset; NaN without any."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """XYXY pixels of the image, right and bottom inclusive; zeros for an empty mask."""

    @property
    def counts(self) -> rle.Counts:
        """Run lengths in the whole image."""


Finish = Callable[[LowResMasks], Iterator[FinishedMask]]
"""Resamples masks to the image, thresholds and measures them."""


class HostFinish:
    """Takes masks one by one, each inside the window in which it can be."""

    def __init__(self, resampler: MaskResampler, threshold: float, stability_offset: float):
        """See `MaskResampler.mask`."""
        self._resampler = resampler
        self._threshold, self._offset = threshold, stability_offset

    def __call__(self, masks: LowResMasks) -> Iterator[ImageMask]:
        """Yield the masks as they are asked for, so that the next batch is decoded meanwhile."""
        for low_res in masks.logits:
            yield self._resampler.mask(low_res, self._threshold, self._offset)


class DeviceFinish:
    """Runs `everything_finish.onnx`: what comes back is one bit a pixel instead of the logits."""

    def __init__(
        self,
        session: Session,
        resampler: MaskResampler,
        threshold: float,
        stability_offset: float,
    ):
        """Prepare the matrices of a crop.

        Args:
            session: of the graph.
            resampler: of the crop.
            threshold: logits above it are in the mask.
            stability_offset: shift of the threshold up and down for the stability score.
        """
        self._session, self._resampler = session, resampler
        columns = resampler.columns.matrix
        thresholds = [threshold + stability_offset, threshold, threshold - stability_offset]
        self._feeds = {
            "rows": resampler.rows.matrix,
            # Rows of zeros fill the last byte; the graph counts no pixels there
            "columns": np.pad(columns, ((0, -len(columns) % PIXELS_PER_BYTE), (0, 0))),
            "thresholds": np.array(thresholds, np.float32),
        }

    def __call__(self, masks: LowResMasks) -> Iterator[PackedMask]:
        """Yield the masks. Raises InferenceError where the graph gives what cannot be masks."""
        outputs = self._session.run({"low_res_masks": masks.logits, **self._feeds})
        bits, boxes, counts = (outputs[name] for name in ("mask_bits", "boxes", "pixel_counts"))
        self._check(bits, boxes, counts, masks.size)
        make = self._resampler
        for of_mask in zip(bits, boxes, counts, strict=True):
            yield PackedMask.of(*of_mask, origin=make.origin, image_shape=make.image_shape)

    def _check(
        self,
        bits: NDArray[np.uint8],
        boxes: NDArray[np.int32],
        counts: NDArray[np.int32],
        masks: int,
    ) -> None:
        """Raise InferenceError unless there are so many masks, inside the crop."""
        height, width = self._resampler.crop_shape
        expected = (masks, height, -(-width // PIXELS_PER_BYTE))
        if bits.shape != expected or not len(boxes) == len(counts) == masks:
            raise InferenceError(
                f"graph 'everything_finish' gave masks {bits.shape}, {len(boxes)} boxes and "
                f"{len(counts)} counts, expected masks {expected} and as many of the others"
            )
        low, high = boxes[:, :2], boxes[:, 2:]
        if not ((low >= 0) & (low <= high) & (high < [width, height])).all():
            raise InferenceError("graph 'everything_finish' gave boxes outside the image")
