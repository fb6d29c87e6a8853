"""The CAM graph and classifier against torch, written here from the papers' own code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from samrefine_export.cam import export_cam
from samrefine_export.cam.archs import build_network
from samrefine_export.third_party import import_timm, torchvision_model
from samrefine_runtime import backends
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamClassifier, CamSettings
from samrefine_runtime.image import RgbImage
from tests.samples import ONE_THREAD

TOLERANCE = 1e-4
CLASSES = ["bird", "boat", "bus", "cat", "cow"]
SIZES = ((65, 97), (224, 160), (33, 40))

Reference = Callable[[Tensor], tuple[Tensor, Tensor]]


def perturb(net: nn.Module, seed: int) -> nn.Module:
    """Statistics, scales and biases away from their initial values, activations kept in range."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(uniform(module.running_mean, -0.3, 0.3))
                module.running_var.copy_(uniform(module.running_var, 0.5, 2))
                module.weight.copy_(uniform(module.weight, 0.3, 0.9))
                module.bias.copy_(uniform(module.bias, -0.3, 0.3))
            elif isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
    return net.eval()


def irn(folder: Path) -> tuple[Reference, Path]:
    """IRN's network, and its checkpoint with the aliases it stores."""
    torch.manual_seed(1)
    backbone: Any = perturb(torchvision_model("resnet50"), 1)
    backbone.layer4[0].conv2.stride = (1, 1)
    backbone.layer4[0].downsample[0].stride = (1, 1)
    weight = torch.randn(len(CLASSES), 2048, 1, 1) * 0.05
    stem = [backbone.conv1, backbone.bn1, backbone.relu, backbone.maxpool]
    stages = nn.Sequential(
        *stem, backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4
    )
    own = {k: v for k, v in backbone.state_dict().items() if not k.startswith("fc.")}
    state = {f"module.resnet50.{k}": v for k, v in own.items()}
    for alias, stage in (
        ("stage2.0", "layer2"),
        ("backbone.1.0", "layer2"),
        ("stage4.0", "layer4"),
    ):
        state |= {
            f"module.{alias}.{k.removeprefix(stage + '.')}": v
            for k, v in own.items()
            if k.startswith(stage)
        }
    state |= {f"module.{k}": weight for k in ("classifier.weight", "newly_added.0.weight")}
    torch.save({"state_dict": state}, folder / "res50_cam.pth")

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        features = stages(image)
        return F.conv2d(features, weight), F.conv2d(features.mean((2, 3), True), weight)[..., 0, 0]

    return run, folder / "res50_cam.pth"


def resnet18(folder: Path) -> tuple[Reference, Path]:
    torch.manual_seed(2)
    net: Any = perturb(torchvision_model("resnet18", num_classes=len(CLASSES)), 2)
    torch.save(net.state_dict(), folder / "resnet18.pth")

    def run(image: Tensor) -> tuple[Tensor, Tensor]:
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return torch.einsum("bfhw,cf->bchw", x, net.fc.weight), net(image)

    return run, folder / "resnet18.pth"


def timm_network(name: str) -> Callable[[Path], tuple[Reference, Path]]:
    def build(folder: Path) -> tuple[Reference, Path]:
        torch.manual_seed(3)
        net: Any = perturb(import_timm().create_model(name, num_classes=len(CLASSES)), 3)
        torch.save({"model": net.state_dict()}, folder / f"{name}.pth")

        def run(image: Tensor) -> tuple[Tensor, Tensor]:
            weight = net.get_classifier().weight
            maps = torch.einsum("bfhw,cf->bchw", net.forward_features(image), weight.flatten(1))
            return maps, net(image)

        return run, folder / f"{name}.pth"

    return build


NETWORKS = {
    "irn_resnet50": irn,
    "resnet18": resnet18,
    "timm:resnet10t": timm_network("resnet10t"),
    "timm:efficientnet_b0": timm_network("efficientnet_b0"),
}


def off(actual: NDArray[np.float32], expected: Tensor) -> float:
    """Largest difference over the largest value."""
    reference = expected.detach().numpy()
    assert actual.shape == reference.shape
    assert reference.std() > 1e-3 * np.abs(reference).max()
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


@pytest.fixture(scope="module", params=NETWORKS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reference, Bundle]:
    folder = tmp_path_factory.mktemp("network")
    reference, checkpoint = NETWORKS[request.param](folder)
    export_cam(request.param, checkpoint, CLASSES, folder / "bundle")
    return reference, Bundle.load(folder / "bundle")


@torch.no_grad()
def test_maps_and_logits(exported: tuple[Reference, Bundle]) -> None:
    reference, bundle = exported
    session = backends.open(bundle.graph("cam"), ONE_THREAD)
    torch.manual_seed(0)
    for batch, size in enumerate(SIZES, start=1):
        image = torch.randn(batch, 3, *size)
        outputs = session.run({"image": image.numpy()})
        maps, logits = reference(image)
        assert off(outputs["cam"], maps) < TOLERANCE
        assert off(outputs["logits"], logits) < TOLERANCE


def irn_maps(
    reference: Reference, image: RgbImage, classes: list[int], stride: int
) -> NDArray[np.float32]:
    """(K,H,W): step/make_cam.py of IRN, `highres_cam`."""
    height, width = image.shape[:2]
    up = [(side - 1) // stride * stride + stride for side in (height, width)]
    mean = np.array([0.485, 0.456, 0.406])
    std = np.array([0.229, 0.224, 0.225])
    total = torch.zeros(len(classes), *up)
    for scale in (1.0, 0.5, 1.5, 2.0):
        size = int(np.round(height * scale)), int(np.round(width * scale))
        scaled = image
        if scale != 1:
            resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
            scaled = np.asarray(resized)
        plane = ((scaled / 255.0 - mean) / std).transpose(2, 0, 1)
        pair = torch.tensor(np.stack([plane, plane[:, :, ::-1]]), dtype=torch.float32)
        positive = F.relu(reference(pair)[0])
        summed = (positive[0] + positive[1].flip(-1))[classes]
        total += F.interpolate(summed[:, None], up, mode="bilinear", align_corners=False)[:, 0]
    total = total[:, :height, :width]
    return (total / (F.adaptive_max_pool2d(total, (1, 1)) + 1e-5)).numpy()


def synthetic_image(height: int, width: int) -> RgbImage:
    """Smooth colours with noise, so that every scale matters."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (5, 6, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = generator.integers(-20, 20, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@torch.no_grad()
@pytest.mark.parametrize("size", [(65, 97), (120, 75)])
def test_scales_and_flip(exported: tuple[Reference, Bundle], size: tuple[int, int]) -> None:
    reference, bundle = exported
    assert bundle.cam is not None
    image = synthetic_image(*size)
    logits = reference(torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255)))[1][0]
    present = (logits >= logits.sort().values[2]).numpy()
    result = CamClassifier(bundle, session=ONE_THREAD).run(image, present)
    expected = irn_maps(reference, image, np.flatnonzero(present).tolist(), bundle.cam.stride)
    assert result.classes.tolist() == (np.flatnonzero(present) + 1).tolist()
    assert np.abs(result.maps - expected).max() < TOLERANCE
    stacked = np.pad(expected, ((1, 0), (0, 0), (0, 0)), constant_values=0.15)
    label = np.array([0, *result.classes])[stacked.argmax(axis=0)]
    assert (result.label()[0] == label).mean() > 0.999


@torch.no_grad()
def test_predicted_classes(exported: tuple[Reference, Bundle]) -> None:
    reference, bundle = exported
    image = synthetic_image(64, 96)
    settings = CamSettings(scales=(0.5, 1.0), always_one_class=False)
    result = CamClassifier(bundle, settings, session=ONE_THREAD).run(image)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    plane = ((image / 255.0 - mean) / std).transpose(2, 0, 1)
    pair = torch.tensor(np.stack([plane, plane[:, :, ::-1]]), dtype=torch.float32)
    probabilities = torch.sigmoid(reference(pair)[1].mean(0)).numpy()
    assert result.probabilities == pytest.approx(probabilities, abs=TOLERANCE)
    assert result.classes.tolist() == (np.flatnonzero(probabilities > 0.5) + 1).tolist()


@torch.no_grad()
def test_recam_weights_the_maps_by_both_classifiers(tmp_path: Path) -> None:
    reference, checkpoint = irn(tmp_path)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    second = torch.rand(len(CLASSES), 2048, 1, 1)
    plain = build_network("irn_resnet50", len(CLASSES), state).module
    recam_state = {"classifier.weight": second}
    both = build_network("irn_resnet50", len(CLASSES), state, recam_state=recam_state).module
    image = torch.randn(1, 3, 65, 49)
    maps, logits = both(image)
    # ReCAM's forward2: the feature map under the product of the two weights.
    expected = F.conv2d(both.features(image), second * state["classifier.weight"])
    assert torch.allclose(maps, expected, atol=1e-5 * float(expected.abs().max()))
    assert torch.allclose(logits, plain(image)[1])
    assert torch.allclose(plain(image)[0], reference(image)[0], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("arch", ["resnet18", "timm:resnet10t"])
def test_last_stride_of_one_doubles_the_resolution(arch: str) -> None:
    network = build_network(arch, 3, None, last_stride=1)
    assert network.stride == 16
    maps, logits = network.module(torch.randn(1, 3, 65, 97))
    assert maps.shape[2:] == (5, 7)
    assert torch.allclose(maps.mean((2, 3)) + network.module.bias, logits, atol=1e-4)
