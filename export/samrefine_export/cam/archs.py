"""The architectures that `samrefine export cam --arch` knows."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from samrefine_export.cam.networks import (
    CamNetwork,
    PooledLinear,
    check_classes,
    check_same,
    lower_last_stride,
)
from samrefine_export.cam.timm import timm_network
from samrefine_export.checkpoints import load_strict
from samrefine_export.errors import ExportError
from samrefine_export.third_party import torchvision_model
from samrefine_runtime.errors import SettingsError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_FEATURES = 2048
"""Channels of ResNet50's last stage."""
_RESNET_STRIDE = 32
"""Image pixels per position of a ResNet's last stage; half of it without the last stride."""

SUPPORTED = f"irn_resnet50, {', '.join(RESNETS)}, timm:NAME or MODULE:FACTORY"


class IrnResNet50(nn.Module):
    """IRN's classifier (Ahn et al., 2019): ResNet50 at stride 16, classifier without bias.

    Parameter names are those of its `res50_cam.pth`, less the aliases.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        # Without the classifier of its own
        self.resnet50 = _torchvision_resnet("resnet50", 1)
        self.resnet50.fc = nn.Identity()
        lower_last_stride(self.resnet50.layer4)
        self.classifier = nn.Conv2d(_FEATURES, classes, 1, bias=False)


def build_network(
    arch: str,
    classes: int,
    state: Mapping[str, Tensor] | None,
    *,
    recam_state: Mapping[str, Tensor] | None = None,
    last_stride: int | None = None,
    what: str = "the checkpoint",
) -> CamNetwork:
    """Build the network `arch` in eval mode, with the weights of `state` or else random ones.

    Args:
        arch: one of SUPPORTED.
        classes: foreground classes.
        state: weights by name.
        recam_state: ReCAM's second classifier, for irn_resnet50 only.
        last_stride: 1 doubles the resolution of a ResNet's maps, None keeps the network as it is.
        what: names the checkpoint in messages.

    Raises:
        SettingsError: unknown name, or an option that the network does not have.
        CheckpointError: the weights belong to another network, or to other classes.
        ExportError: the network has no class activation maps.
    """
    if last_stride not in (None, 1):
        raise SettingsError(f"last_stride is {last_stride}, expected 1 or None")
    if recam_state is not None and arch != "irn_resnet50":
        raise SettingsError(f"a ReCAM predictor belongs to irn_resnet50, not to {arch}")
    what = f"{what} as {arch}"
    if arch == "irn_resnet50":
        network = _irn(classes, state, recam_state, what)
    elif arch in RESNETS:
        network = _torchvision(arch, classes, state, last_stride, what)
    elif arch.startswith("timm:"):
        network = timm_network(arch.removeprefix("timm:"), classes, state, last_stride, what)
    elif ":" in arch:
        network = _custom(arch, state, last_stride, what)
    else:
        raise SettingsError(f"unknown architecture {arch!r}; supported are {SUPPORTED}")
    network.module.eval()
    return network


def _irn(
    classes: int,
    state: Mapping[str, Tensor] | None,
    recam_state: Mapping[str, Tensor] | None,
    what: str,
) -> CamNetwork:
    # Load IRN's network without the aliases that its checkpoint stores
    net = IrnResNet50(classes)
    if state is not None:
        kept = {k: v for k, v in state.items() if k.startswith(("resnet50.", "classifier."))}
        check_classes(kept, "classifier.weight", classes, what)
        load_strict(net, kept, what)
    cam = PooledLinear(_resnet_features(net.resnet50), net.classifier.weight[:, :, 0, 0])
    # Weight the maps by both classifiers of ReCAM, if there are two
    if recam_state is not None:
        second = nn.Conv2d(_FEATURES, classes, 1, bias=False)
        check_classes(recam_state, "classifier.weight", classes, "the ReCAM predictor")
        load_strict(nn.ModuleDict({"classifier": second}), recam_state, "the ReCAM predictor")
        # ReCAM's logits are those of the first classifier only
        cam.map_weight = cam.map_weight * second.weight.detach()
    return CamNetwork(cam, stride=_RESNET_STRIDE // 2)


def _torchvision(
    arch: str,
    classes: int,
    state: Mapping[str, Tensor] | None,
    last_stride: int | None,
    what: str,
) -> CamNetwork:
    net = _torchvision_resnet(arch, classes)
    if state is not None:
        check_classes(state, "fc.weight", classes, what)
        load_strict(net, state, what)
    if last_stride == 1:
        lower_last_stride(net.layer4)
    cam = PooledLinear(_resnet_features(net), net.fc.weight, net.fc.bias)
    check_same(cam.eval(), net.eval(), arch)
    return CamNetwork(cam, stride=_RESNET_STRIDE if last_stride is None else _RESNET_STRIDE // 2)


def _torchvision_resnet(arch: str, classes: int) -> Any:
    return torchvision_model(arch, weights=None, num_classes=classes)


def _resnet_features(net: Any) -> nn.Sequential:
    """Return a torchvision ResNet without pooling and classifier: (B,3,h,w) -> (B,F,h/s,w/s)."""
    *features, _pool, _classifier = net.children()
    return nn.Sequential(*features)


def _custom(
    arch: str, state: Mapping[str, Tensor] | None, last_stride: int | None, what: str
) -> CamNetwork:
    if last_stride is not None:
        raise SettingsError(f"last_stride applies to ResNets; set it in {arch} itself")
    network = _import_factory(arch)()
    if not isinstance(network, CamNetwork):
        raise ExportError(f"{arch} returned a {type(network).__name__}, expected a CamNetwork")
    if state is not None:
        load_strict(network.module, state, what)
    return network


def _import_factory(arch: str) -> Callable[[], Any]:
    module_name, _, factory_name = arch.partition(":")
    # A console script does not search the working directory, where users keep such a file.
    sys.path.insert(0, os.fspath(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"cannot import {arch!r}, expected MODULE:FACTORY ({error})") from error
    finally:
        sys.path.remove(os.fspath(Path.cwd()))
    if not callable(factory):
        raise SettingsError(f"{arch} is a {type(factory).__name__}, expected a function")
    return factory
