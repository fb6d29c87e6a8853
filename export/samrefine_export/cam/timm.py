"""timm classifiers as CAM networks, where pooling and head allow it exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from samrefine_export.cam.networks import (
    CamNetwork,
    PooledLinear,
    check_classes,
    check_same,
    lower_last_stride,
    refusal,
)
from samrefine_export.checkpoints import load_strict
from samrefine_export.errors import first_line
from samrefine_export.third_party import import_timm
from samrefine_runtime.errors import SettingsError

_EXACT = 1e-9
"""Difference of float64 results that compute the same, relative to their scale."""


class _TimmFeatures(nn.Module):
    """The features (B,F,h/s,w/s) of a timm network, whichever its own axis order."""

    def __init__(self, net: Any, channel_axis: int) -> None:
        super().__init__()
        self.net = net
        self.channel_axis = channel_axis

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.net.forward_features(image)
        return features if self.channel_axis == 1 else features.permute(0, 3, 1, 2)


def timm_network(
    name: str,
    classes: int,
    state: Mapping[str, Tensor] | None,
    last_stride: int | None,
    what: str,
) -> CamNetwork:
    """Build the timm network `name` with its pooling and head taken apart.

    Its head may be any affine function of the average-pooled features.

    Raises:
        SettingsError: timm does not know the name, or `last_stride` is 1 and it is not a ResNet.
        CheckpointError: the weights belong to another network, or to other classes.
        ExportError: the network has tokens for features, one input size, or another kind of head.
    """
    net = _timm_model(name, classes)
    if state is not None:
        check_classes(state, f"{net.pretrained_cfg.get('classifier')}.weight", classes, what)
        load_strict(net, state, what)
    net.eval()
    if last_stride == 1:
        if not isinstance(getattr(net, "layer4", None), nn.Sequential):
            raise SettingsError(f"last_stride applies to ResNets only, not to timm:{name}")
        lower_last_stride(net.layer4)
    cam, stride = _fold_timm(net, f"timm:{name}")
    if last_stride == 1 and 2 * stride != net.feature_info[-1]["reduction"]:
        raise SettingsError(
            f"the last stride of timm:{name} is neither a convolution's nor a pooling's"
        )
    return CamNetwork(
        cam, stride=stride, mean=net.pretrained_cfg["mean"], std=net.pretrained_cfg["std"]
    )


def _timm_model(name: str, classes: int) -> Any:
    timm = import_timm()
    if not timm.is_model(name):
        similar = ", ".join(timm.list_models(f"*{name}*")[:5]) or "none similar"
        raise SettingsError(f"timm {timm.__version__} has no network {name!r} ({similar})")
    return timm.create_model(name, pretrained=False, num_classes=classes)


@torch.no_grad()
def _fold_timm(net: Any, arch: str) -> tuple[PooledLinear, int]:
    """Return the network as maps and logits, and its stride.

    Raises:
        ExportError: it has no class activation maps.
    """
    image = torch.randn(1, 3, 64, 128, generator=_seeded(), dtype=torch.float64)
    # Find the features and their channel axis. In float64 a fold that is exact shows as such;
    # it holds every float32 weight exactly, so going there and back loses nothing.
    net.double()
    try:
        features = net.forward_features(image)
    except Exception as error:  # networks of one size raise all kinds
        raise refusal(arch, f"it does not take images of any size: {first_line(error)}") from error
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise refusal(arch, "its features are tokens, not a map")
    # Fold the head into one linear layer
    axis = 1 if features.shape[1] == net.num_features else 3
    try:
        folded = fold_head(net.forward_head, features, axis)
    except Exception as error:  # heads with other needs raise all kinds
        raise refusal(arch, f"its head cannot be read: {first_line(error)}") from error
    if folded is None:
        raise refusal(arch, "its head has a hidden layer, a norm or another pooling")
    # Compare the maps with the network itself, back in float32
    net.float()
    weight, bias = (part.float() for part in folded)
    check_same(cam := PooledLinear(_TimmFeatures(net, axis), weight, bias), net, arch)
    columns = features.shape[3 if axis == 1 else 2]
    return cam, image.shape[3] // columns


@torch.no_grad()
def fold_head(
    head: Callable[[Tensor], Tensor], features: Tensor, channel_axis: int
) -> tuple[Tensor, Tensor] | None:
    """Return the weight (C,F) and bias (C,) of a head that is affine in the mean over positions.

    The head is probed with unit features in float64, so dropout, 1x1 convolutions, batch norms
    and linear layers without activations between them fold exactly.

    Args:
        head: features -> logits (B,C); its parameters must be float64.
        features: some real features, 4-D float64.
        channel_axis: 1 for (B,F,h,w), 3 for (B,h,w,F).

    Returns:
        None where the head is anything else.
    """
    # Read bias and weight off: the outputs for zero features and for one channel at a time
    channels = features.shape[channel_axis]
    shape = (channels, channels, 1, 1) if channel_axis == 1 else (channels, 1, 1, channels)
    bias = head(features.new_zeros(1, *shape[1:]))[0]
    weight = (head(torch.eye(channels, dtype=features.dtype).reshape(shape)) - bias).T
    # Accept them if they predict the head on features they were not read from, at several scales
    positions = (2, 3) if channel_axis == 1 else (1, 2)
    noise = torch.randn(features.shape, generator=_seeded(), dtype=features.dtype)
    for probe in (features, noise, 30 * noise, 0.1 * features):
        expected, folded = head(probe), probe.mean(positions) @ weight.T + bias
        if not (expected - folded).abs().max() <= _EXACT * (1 + expected.abs().max()):
            return None
    return weight, bias


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
