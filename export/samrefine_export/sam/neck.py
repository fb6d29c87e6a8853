"""The neck of SAM's encoders, on operators that keep their precision in every engine."""

from __future__ import annotations

from torch import nn

from samrefine_export.sam.norms import use_channel_norms


class StreamProjection(nn.Conv2d):
    """The convolution that begins the neck."""

    keeps_single = True
    """It takes the sum of all blocks as it is, without a norm before: large encoders have values in
    it that half precision cannot hold."""

    @classmethod
    def of(cls, conv: nn.Conv2d) -> StreamProjection:
        """Take over the weights of a convolution of kernel 1 without bias."""
        mine = nn.utils.skip_init(cls, conv.in_channels, conv.out_channels, 1, bias=False)
        mine.weight = conv.weight
        return mine


def use_plain_neck(encoder: nn.Module) -> None:
    """Replace the neck's first convolution, and all norms over channels; exact to rounding.

    Args:
        encoder: changed in place, but for its modules outside of `neck`, if it has none of
            SAM's LayerNorm2d there.
    """
    use_channel_norms(encoder)
    neck = getattr(encoder, "neck", None)
    if not isinstance(neck, nn.Sequential):
        return
    first = neck[0]
    if isinstance(first, nn.Conv2d) and first.kernel_size == (1, 1) and first.bias is None:
        neck[0] = StreamProjection.of(first)
