"""export_cam: class lists, architectures that are refused, custom networks, bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samrefine_export.cam import (
    CamNetwork,
    export_cam,
    export_cam_network,
)
from samrefine_export.cam.archs import build_network
from samrefine_export.cam.export import MOST, ROUNDING, allowed_difference
from samrefine_export.cam.timm import fold_head
from samrefine_export.errors import CheckpointError, ExportError
from samrefine_export.third_party import import_timm, torchvision_model
from samrefine_runtime.bundle import Bundle, sha256_of
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.errors import SettingsError
from tests.command import failed, run
from tests.samples import ONE_THREAD, cpu_session

CLASSES = ["cat", "dog", "tram"]

FACTORY = """
import torch
from samrefine_export.cam import CamNetwork

def build():
    network = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
    return CamNetwork(network, stride=2, has_background=True, mean=(0.5, 0.5, 0.5))

def wrong():
    return torch.nn.Conv2d(3, 4, 3)
"""


def small_network(outputs: int = 3, stride: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, outputs, 3, stride=stride, padding=1)


@pytest.mark.parametrize("arch", ["resnet21", "vgg16", ""])
def test_unknown_architecture_names_the_known(tmp_path: Path, arch: str) -> None:
    with pytest.raises(SettingsError, match=r"irn_resnet50, resnet18.*timm:NAME"):
        export_cam(arch, None, CLASSES, tmp_path / "b", random_weights=0)


def test_unknown_timm_network(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no network 'resnet19' \("):
        export_cam("timm:resnet19", None, CLASSES, tmp_path / "b", random_weights=0)


def test_weights_come_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs a checkpoint"):
        export_cam("resnet18", None, CLASSES, tmp_path / "b")
    with pytest.raises(SettingsError, match="not both"):
        export_cam("resnet18", "a.pth", CLASSES, tmp_path / "b", random_weights=0)


def test_options_of_other_networks() -> None:
    with pytest.raises(SettingsError, match="last_stride is 4"):
        build_network("resnet18", 3, None, last_stride=4)
    with pytest.raises(SettingsError, match="ReCAM"):
        build_network("resnet18", 3, None, recam_state={})
    with pytest.raises(SettingsError, match="applies to ResNets"):
        build_network("timm:test_efficientnet", 3, None, last_stride=1)


def resnet18(path: Path, outputs: int) -> Path:
    torch.save(torchvision_model("resnet18", num_classes=outputs).state_dict(), path)
    return path


def test_other_number_of_classes(tmp_path: Path) -> None:
    file = resnet18(tmp_path / "a.pth", 5)
    with pytest.raises(CheckpointError, match="knows 5 classes, the class list has 3"):
        export_cam("resnet18", file, CLASSES, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(CheckpointError, match="has 6; the background is not one of them"):
        export_cam("resnet18", file, ["nothing", *"abcde"], tmp_path / "b")


@pytest.mark.parametrize("arch", ["irn_resnet50", "resnet34"])
def test_weights_of_another_network(tmp_path: Path, arch: str) -> None:
    file = resnet18(tmp_path / "a.pth", 3)
    with pytest.raises(CheckpointError, match=r"a\.pth as .*another network.*missing \("):
        export_cam(arch, file, CLASSES, tmp_path / "b")


def test_timm_head_of_other_size(tmp_path: Path) -> None:
    net = import_timm().create_model("test_efficientnet", num_classes=7)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="knows 7 classes, the class list has 3"):
        export_cam("timm:test_efficientnet", tmp_path / "a.pth", CLASSES, tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mobilenetv3_small_050", "hidden layer"),
        ("test_convnext", "norm"),
        ("test_vit", "tokens|one size|any size"),
    ],
)
def test_networks_without_maps(name: str, why: str) -> None:
    with pytest.raises(ExportError, match=f"({why}).*supported are networks that end in"):
        build_network(f"timm:{name}", 3, None)


def test_heads_that_fold() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6)
    norm.running_mean, norm.running_var = torch.randn(6), torch.rand(6) + 0.5
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Sequential(*pool, norm, nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3))
    head.double().eval()
    features = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        folded = fold_head(head, features, 1)
        assert folded is not None
        mapped = torch.einsum("bfhw,cf->bchw", features, folded[0]).mean((2, 3)) + folded[1]
        assert torch.allclose(mapped, head(features), atol=1e-12)


@pytest.mark.parametrize(
    "middle",
    [
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU()],
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6)],
        [nn.AdaptiveMaxPool2d(1), nn.Flatten()],
        [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    ],
)
def test_heads_that_do_not(middle: list[nn.Module]) -> None:
    head = nn.Sequential(*middle, nn.Linear(6, 3)).double().eval()
    with torch.no_grad():
        assert fold_head(head, torch.randn(2, 6, 4, 5, dtype=torch.float64), 1) is None


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cam_for_test.py").write_text(FACTORY)
    return tmp_path


def test_by_import_path(factory: Path) -> None:
    export_cam("my_cam_for_test:build", None, CLASSES, "bundle")
    bundle = Bundle.load("bundle")
    assert bundle.cam is not None and bundle.cam.has_background and bundle.cam.stride == 2
    assert bundle.manifest["cam"]["arch"] == "my_cam_for_test:build"
    image = np.random.default_rng(0).integers(0, 255, (31, 45, 3), np.uint8)
    result = CamClassifier(bundle, session=ONE_THREAD).run(image, np.array([True, False, True]))
    assert result.maps.shape == (2, 31, 45)
    assert isinstance(result.background, np.ndarray)


def test_with_a_checkpoint(factory: Path) -> None:
    weights = nn.Conv2d(3, 4, 3)
    torch.save(weights.state_dict(), "mine.pth")
    export_cam("my_cam_for_test:build", "mine.pth", CLASSES, "bundle")
    digest = sha256_of(Path("mine.pth"))
    assert Bundle.load("bundle").manifest["cam"]["checkpoint_sha256"] == digest


@pytest.mark.parametrize(
    ("arch", "error", "message"),
    [
        ("my_cam_for_test:wrong", ExportError, "Conv2d, expected a CamNetwork"),
        ("my_cam_for_test:none", SettingsError, "cannot import"),
        ("no_such_module:build", SettingsError, "cannot import"),
        ("my_cam_for_test:torch", SettingsError, "expected a function"),
    ],
)
def test_unusable_factories(factory: Path, arch: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        export_cam(arch, None, CLASSES, "bundle")


def test_logits_default_to_the_mean_of_the_class_maps(tmp_path: Path) -> None:
    network = CamNetwork(small_network(4), stride=4, has_background=True)
    export_cam_network(network, CLASSES, tmp_path / "b")
    session = cpu_session(tmp_path / "b" / "cam.onnx")
    outputs = session.run({"image": np.random.rand(2, 3, 21, 34).astype(np.float32)})
    assert outputs["cam"].shape == (2, 4, 6, 9)
    assert outputs["logits"] == pytest.approx(outputs["cam"][:, 1:].mean((2, 3)), abs=1e-5)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (CamNetwork(small_network(5), 4), r"maps are \(1, 5, .*expected \(1, 3, .*3 classes"),
        (CamNetwork(small_network(3), 4, has_background=True), "3 classes and a background"),
        (CamNetwork(small_network(3), 16), "not stride 16"),
        (CamNetwork(nn.Conv2d(4, 3, 1), 1), "the network fails on an image"),
    ],
)
def test_outputs_that_break_the_contract(tmp_path: Path, network: CamNetwork, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_cam_network(network, CLASSES, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


class SizeDependent(nn.Module):
    """Bakes the traced size into the graph."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = image[:, :3] * (1 + self.share * float(image.shape[2]))
        return maps


@pytest.mark.parametrize("share", [1.0, 3e-5])
def test_graph_that_differs_from_torch_is_not_written(tmp_path: Path, share: float) -> None:
    network = CamNetwork(small_network(), 4)
    export_cam_network(network, CLASSES, tmp_path / "b")
    before = (tmp_path / "b" / "manifest.json").read_bytes()
    with pytest.raises(ExportError, match="differ from torch by"):
        export_cam_network(CamNetwork(SizeDependent(share), 1), CLASSES, tmp_path / "b")
    assert (tmp_path / "b" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


class Amplifying(nn.Module):
    """Changes `gain` times as much as its image does, as deep networks do."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.sin(self.gain * image)
        return maps, maps.mean((2, 3))


def test_rounding_is_allowed_as_the_network_amplifies_it() -> None:
    image = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    allowed = []
    for gain in (1, 1e2, 1e3, 1e6):
        module = Amplifying(gain)
        outputs = [output.numpy() for output in module(image)]
        allowed.append(allowed_difference(module, image, outputs))
    assert allowed[0] == ROUNDING
    assert ROUNDING < allowed[1] < allowed[2] < allowed[3] == MOST


def test_a_deep_network_with_many_classes(tmp_path: Path) -> None:
    """Rounding alone takes its maps 1e-4 of their scale away from torch."""
    names = [f"class {index}" for index in range(20)]
    export_cam("irn_resnet50", None, names, tmp_path / "b", random_weights=0)
    assert Bundle.load(tmp_path / "b").require_cam().stride == 16


def test_replaces_the_classifier_and_keeps_the_rest(tmp_path: Path) -> None:
    first, second = CamNetwork(small_network(), 4), CamNetwork(small_network(2, 8), 8)
    export_cam_network(first, CLASSES, tmp_path / "b", name="both", random_weights=7)
    manifest = tmp_path / "b" / "manifest.json"
    content: dict[str, Any] = json.loads(manifest.read_text())
    assert content["cam"]["random_weights"] == 7
    manifest.write_text(json.dumps({**content, "defaults": {"points_per_side": 8}}))
    export_cam_network(second, ["a", "b"], tmp_path / "b", defaults={"scales": [1]})
    bundle = Bundle.load(tmp_path / "b")
    assert bundle.name == "both" and bundle.defaults == {"points_per_side": 8}
    assert bundle.cam is not None and bundle.cam.classes == ("a", "b")
    assert bundle.random_seed is None
    assert CamClassifier(bundle, session=ONE_THREAD).settings.scales == (1.0,)


def test_random_weights_repeat(tmp_path: Path) -> None:
    digests = set()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        export_cam("timm:test_efficientnet", None, CLASSES, tmp_path / name, random_weights=seed)
        digests.add(sha256_of(tmp_path / name / "cam.onnx"))
    assert len(digests) == 2


def test_graph_holds_no_paths(tmp_path: Path) -> None:
    export_cam_network(CamNetwork(small_network(), 4), CLASSES, tmp_path / "b")
    assert b".py" not in (tmp_path / "b" / "cam.onnx").read_bytes()


def test_the_command_takes_names_and_writes_json(tmp_path: Path) -> None:
    arguments = ["export", "cam", "--arch", "resnet18", "--random-weights", 0]
    done = run(*arguments, "--classes", "background,cat,dog", "--out", tmp_path / "b", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["cam"]["classes"] == ["cat", "dog"]
    assert "wrote" not in done.stderr
    message = failed(run(*arguments, "--classes", "cat,cat", "--out", tmp_path / "c"), 2)
    assert "names 'cat' more than once" in message and not (tmp_path / "c").exists()
