"""The contract between a CAM network and its export, and the network most classifiers become.

A class activation map is the classifier's linear layer applied at every position of the last
feature map, before pooling (Zhou et al., "Learning Deep Features for Discriminative Localization",
2016). In shapes below B is the batch, C the classes, F the feature channels, h and w the image's
sides, s the stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samrefine_export.errors import CheckpointError, ExportError
from samrefine_runtime.checks import as_array, described
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.settings import Domain

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_ROUNDING = 1e-4
"""Difference of float32 results that compute the same, relative to the largest."""

_CONTRACT = (
    "supported are networks that end in global average pooling and one linear layer; "
    "for any other, write a factory that returns a CamNetwork"
)


@dataclass
class CamNetwork:
    """A network that returns class activation maps, and what the runtime must know about it.

    Any network fits, in a few lines of a file `my_cam.py`, exported by `--arch my_cam:build`:

        from samrefine_export.cam import CamNetwork

        def build():
            network = MyNetwork()  # forward: image (B,3,h,w) -> raw maps (B,C,h/8,w/8)
            network.load_state_dict(torch.load("my.pth", weights_only=True))
            return CamNetwork(network, stride=8)
    """

    module: nn.Module
    """Image (B,3,h,w) float32, normalised -> raw maps (B,C,h/stride,w/stride) before any ReLU, or
    the pair of maps and logits (B,C); logits default to the mean of the maps over positions."""
    stride: int
    """Image pixels per map position."""
    has_background: bool = False
    """Whether the maps are (B,1+C,...), the network's own background first; logits stay (B,C)."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """RGB, subtracted from values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """RGB, divides what is left of them."""

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise SettingsError(f"module is {described(self.module)}, expected a torch.nn.Module")
        Domain(int, 1).check("stride", self.stride)
        Domain(bool).check("has_background", self.has_background)
        for name in ("mean", "std"):
            as_array(getattr(self, name), name, "three numbers RGB", (3,))


class PooledLinear(nn.Module):
    """Features, average pooling and a linear layer, as maps (B,C,h/s,w/s) and logits (B,C).

    Without a bias the logits are the mean of the maps; a bias is part of the logits only, as it
    is the same at every position.
    """

    weight: Tensor
    bias: Tensor
    map_weight: Tensor

    def __init__(self, features: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
        """Wrap `features`: (B,3,h,w) -> (B,F,h/s,w/s), with `weight` (C,F) and `bias` (C,)."""
        super().__init__()
        self.features = features
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", torch.zeros(len(weight)) if bias is None else bias.detach())
        self.register_buffer("map_weight", self.weight[:, :, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (B,C,h/s,w/s) and logits (B,C) of images (B,3,h,w)."""
        features = self.features(image)
        # The linear layer at every position, and after average pooling
        maps = F.conv2d(features, self.map_weight)
        return maps, F.linear(features.mean((2, 3)), self.weight, self.bias)


def lower_last_stride(stage: nn.Module) -> None:
    """Set the stride of a ResNet's last stage to 1, in place, without dilation, as IRN does."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
        if isinstance(module, nn.AvgPool2d) and module.stride in (2, (2, 2)):
            # ResNet-D pools where others stride; pooling one position changes nothing
            module.kernel_size, module.stride, module.padding = 1, 1, 0


def check_classes(state: Mapping[str, Tensor], head: str, classes: int, what: str) -> None:
    """Raise CheckpointError if only the number of classes of the weights is wrong.

    `load_strict` would report it as another network.

    Args:
        state: weights by name.
        head: name of the classifier's weight (C,...); unchecked where `state` lacks it.
        classes: foreground classes of the class list.
        what: names the checkpoint in the message.
    """
    known = len(state[head]) if head in state and state[head].ndim else classes
    if known != classes:
        hint = "; the background is not one of them" if classes == known + 1 else ""
        raise CheckpointError(f"{what} knows {known} classes, the class list has {classes}{hint}")


@torch.no_grad()
def check_same(cam: PooledLinear, net: nn.Module, arch: str) -> None:
    """Raise ExportError unless the maps' mean plus bias is the output of the original network."""
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps, logits = cam(image)
    expected = net(image)
    for actual in (logits, maps.mean((2, 3)) + cam.bias):
        if not (actual - expected).abs().max() <= _ROUNDING * (1e-6 + expected.abs().max()):
            raise refusal(arch, "the mean of its maps is not its output")


def refusal(arch: str, why: str) -> ExportError:
    """Return the error for a network whose maps cannot be computed exactly."""
    return ExportError(f"{arch} has no class activation maps: {why}; {_CONTRACT}")
