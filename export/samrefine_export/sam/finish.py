"""Everything mode's last step as a graph: low-res logits to pixel counts, boxes and packed masks.

For engines with a memory of their own: a mask leaves it as one bit a pixel. The runtime's windowed
resampling (`samrefine_runtime.masks.resample`) computes the same on CPUs, in less work.

In shapes below S is the masks, h and w the sides of the low-res logits, H and W those of the image
or crop, W' = W rounded up to a multiple of 8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PIXELS_PER_BYTE = 8
"""Pixels of a row side by side that share a byte, the first in its highest bit."""


class MaskFinish(nn.Module):
    """The graph `everything_finish.onnx`: resampling, stability and boxes of many masks."""

    bits: Tensor

    def __init__(self) -> None:
        super().__init__()
        # 128, 64, ..., 1, as numpy.packbits has it
        self.register_buffer("bits", 2.0 ** torch.arange(PIXELS_PER_BYTE - 1, -1, -1))

    def forward(
        self, low_res_masks: Tensor, rows: Tensor, columns: Tensor, thresholds: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Resample masks to the image, threshold, and measure them.

        Args:
            low_res_masks: (S, h, w) logits.
            rows: (H, h), the resampling along the height as a matrix; a row sums to one.
            columns: (W', w), the same along the width, filled up with rows of zeros.
            thresholds: (3,), the mask threshold plus the stability score's offset, itself, and
                less the offset.

        Returns:
            Pixels (S, 3) int32 above each threshold: the first over the last is the stability
            score. Boxes (S, 4) int32 XYXY, right and bottom
            inclusive, zeros for an empty mask. Masks (S, H, W' / 8) uint8, packed along the width.
        """
        logits = rows @ low_res_masks @ columns.transpose(0, 1)
        # A column that nothing was resampled to is no part of the image
        is_inside = columns.sum(dim=1) > 0.5
        above = [((logits > each) & is_inside).to(logits.dtype) for each in thresholds.unbind()]
        counts = torch.stack([_count(each) for each in above], dim=1)
        masks = above[1]
        # Powers of two of 8 pixels side by side add up to a byte
        packed = masks.unflatten(2, (-1, PIXELS_PER_BYTE)) @ self.bits
        return counts, _boxes(masks), packed.to(torch.uint8)


def _count(masks: Tensor) -> Tensor:
    """Count the ones of masks (S, H, W') float, (S,) int32."""
    # Row by row first: single precision counts exactly up to 2^24, less than an image may have
    return masks.sum(dim=2).to(torch.int32).sum(dim=1, dtype=torch.int32)


def _boxes(masks: Tensor) -> Tensor:
    """Return the boxes (S, 4) int32 XYXY of masks (S, H, W') of zeros and ones."""
    left, right = _extent(masks.amax(dim=1))
    top, bottom = _extent(masks.amax(dim=2))
    return torch.stack([left, top, right, bottom], dim=1).to(torch.int32)


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last position (S,) of ones in `used` (S, L); 0 without any."""
    # The last one is the largest position among them, the first one the farthest from the end
    position = torch.arange(used.shape[1]).to(used.dtype)
    end = position[-1]
    first = end - (used * (end - position)).amax(dim=1)
    return first * used.amax(dim=1), (used * position).amax(dim=1)
