"""SAM's layer norm over channels as the native operator."""

from __future__ import annotations

import torch
from torch import nn

from samrefine_export.sam.norms import ChannelNorm, use_channel_norms
from samrefine_export.third_party import LayerNorm2d


def random_norm(channels: int, eps: float = 1e-6) -> LayerNorm2d:
    torch.manual_seed(0)
    norm = LayerNorm2d(channels, eps)
    norm.weight.data = torch.randn(channels)
    norm.bias.data = torch.randn(channels)
    return norm


def test_channel_norm_equals_sams() -> None:
    x = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(3))
    for eps in (1e-6, 0.1):
        theirs = random_norm(6, eps)
        torch.testing.assert_close(ChannelNorm.of(theirs)(x), theirs(x))


def test_all_norms_are_replaced_and_share_their_weights() -> None:
    inner = nn.Sequential(nn.Conv2d(6, 6, 1), random_norm(6))
    network = nn.Sequential(random_norm(6), inner)
    x = torch.randn(1, 6, 4, 4)
    before, weights = network(x), [network[0].weight, inner[1].weight]
    use_channel_norms(network)
    assert not any(isinstance(module, LayerNorm2d) for module in network.modules())
    torch.testing.assert_close(network(x), before)
    assert network[0].weight is weights[0] and inner[1].weight is weights[1]
