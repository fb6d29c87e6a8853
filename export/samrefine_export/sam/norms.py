"""Layer norm over the channels of an image, as the one operator that engines know."""

from __future__ import annotations

from torch import Tensor, nn

from samrefine_export.third_party import LayerNorm2d


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an image, on the native operator.

    Equal to SAM's LayerNorm2d, which spells it out as mean and power: the squares overflow in half
    precision from 256 on, where engines compute the native operator in single.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    @classmethod
    def of(cls, norm: LayerNorm2d) -> ChannelNorm:
        """Take over the weights of SAM's own module."""
        mine = cls(len(norm.weight), norm.eps)
        mine.weight, mine.bias = norm.weight, norm.bias
        return mine

    def forward(self, x: Tensor) -> Tensor:
        """Map (B,C,h,w) to (B,C,h,w)."""
        return channels_first(super().forward(channels_last(x)))


def use_channel_norms(module: nn.Module) -> None:
    """Replace every LayerNorm2d under `module` by a ChannelNorm, in place; exact to rounding."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LayerNorm2d):
                setattr(parent, name, ChannelNorm.of(child))


def channels_last(x: Tensor) -> Tensor:
    """Map (B,C,h,w) to (B,h,w,C)."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """Map (B,h,w,C) to (B,C,h,w)."""
    return x.permute(0, 3, 1, 2)
