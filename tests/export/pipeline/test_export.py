"""Whole graphs against the runtime, image by image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from samrefine_export.cam import CamNetwork, export_cam_network
from samrefine_export.errors import ExportError
from samrefine_export.pipeline import export_everything, export_label, export_refine
from samrefine_rt.demo import IMAGES
from samrefine_runtime.bundle import EMBEDDED, Bundle
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.errors import BundleError
from samrefine_runtime.image import RgbImage, read_image
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import failed, run
from tests.samples import needs_voc, voc_images

SCENES = sorted(IMAGES.glob("*.jpg"))

Outputs = dict[str, NDArray[Any]]


class Runner:
    """Runs a graph in a file."""

    def __init__(self, path: Path) -> None:
        onnx.checker.check_model(str(path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 2, 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, **feeds: Any) -> Outputs:
        arrays = {
            name: np.asarray(v, np.float32 if isinstance(v, float) else None)
            for name, v in feeds.items()
        }
        return dict(zip(self.names, self.session.run(None, arrays), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def label(folder: Path) -> Runner:
    export_label("demo", folder / "label.onnx")
    return Runner(folder / "label.onnx")


@pytest.fixture(scope="module")
def labeler() -> Labeler:
    return Labeler("demo", generator={"prompts": "near"}, session={"threads": 2})


def agreement(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    return float((actual == expected).mean())


def assert_same(label: Runner, labeler: Labeler, image: RgbImage) -> Outputs:
    found, expected = label(image=image), labeler.label(image)
    assert agreement(found["pseudo_label"], expected.pseudo_label) >= 0.995
    assert agreement(found["label"], expected.label) >= 0.995
    assert np.allclose(found["probabilities"], expected.cam.probabilities, atol=1e-4)
    return found


@pytest.mark.parametrize("scene", SCENES, ids=lambda path: path.stem)
def test_labels_of_drawn_scenes(label: Runner, labeler: Labeler, scene: Path) -> None:
    found = assert_same(label, labeler, read_image(scene))
    expected = labeler.label(read_image(scene)).masks
    assert np.array_equal(found["boxes"], expected.boxes)
    assert np.allclose(found["scores"], expected.predicted_iou, atol=1e-4)
    assert np.allclose(found["stability_scores"], expected.stability_score, atol=1e-3)
    assert set(found["taken_by"]) <= {0, *found["label"].flat}


@needs_voc
def test_labels_of_real_images(label: Runner) -> None:
    """Every image is refined, however little SAM understands of it."""
    labeler = Labeler(
        "demo", generator={"prompts": "near"}, refinement={"min_trust": 0}, session={"threads": 2}
    )
    for path in voc_images(6):
        image = read_image(path)
        found = label(image=image, min_trust=0.0)
        assert agreement(found["label"], labeler.label(image).label) >= 0.995, path.stem


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5), (1300, 40), (1200, 1600)])
def test_images_of_any_shape(label: Runner, labeler: Labeler, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found, expected = label(image=image), labeler.label(image)
    assert agreement(found["label"], expected.label) >= (0.99 if min(shape) > 30 else 0)
    assert found["label"].shape == shape


def test_given_classes(label: Runner, labeler: Labeler) -> None:
    image = read_image(SCENES[0])
    for given in np.eye(len(labeler.classes), dtype=bool)[:3]:
        found, expected = label(image=image, image_labels=given), labeler.label(image, given)
        assert agreement(found["label"], expected.label) >= 0.995
    nothing = np.zeros(len(labeler.classes), bool)
    found = label(image=image, image_labels=nothing)
    assert not found["label"].any() and len(found["boxes"]) == 0


@pytest.mark.parametrize(
    "numbers",
    [
        {"pred_iou_thresh": 1.0},
        {"stability_score_thresh": 1.0},
        {"background_score": 1.0},
        {"background_score": 0.0},
        {"presence_threshold": 0.0},
        {"box_nms_thresh": 0.0},
        {"min_trust": 1.0},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    ],
    ids=lambda numbers: ",".join(f"{name}={value}" for name, value in numbers.items()),
)
def test_thresholds_at_extremes(label: Runner, numbers: dict[str, float]) -> None:
    image = np.ascontiguousarray(read_image(SCENES[1])[::2, ::2])
    parts: dict[str, dict[str, float]] = {"generator": {}, "cam": {}, "refinement": {}}
    for name, value in numbers.items():
        part = {"background_score": "cam", "presence_threshold": "cam", "min_trust": "refinement"}
        parts[part.get(name, "generator")][name] = value
    generator = {**parts["generator"], "prompts": "near"}
    labeler = Labeler("demo", generator=generator, cam=parts["cam"], refinement=parts["refinement"])
    found, expected = label(image=image, **numbers), labeler.label(image)
    assert len(found["boxes"]) == len(expected.masks)
    assert agreement(found["label"], expected.label) >= 0.995


class _Colours(nn.Module):
    """Probability that a pixel is red, green or neither; logits from its mean."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = F.avg_pool2d(image, 4)
        scores = torch.cat([torch.full_like(pooled[:, :1], 0.5), pooled[:, :2]], 1)
        maps = torch.softmax(8 * scores, 1)
        return maps, 4 * (maps[:, 1:].mean((2, 3)) - 0.3)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("background_score", [0.0, 0.4])
def test_a_network_with_its_own_background(
    tmp_path: Path, normalise: bool, background_score: float
) -> None:
    shutil.copytree(EMBEDDED["demo"], tmp_path / "bundle")
    network = CamNetwork(_Colours(), 4, has_background=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    defaults = {"normalise": normalise, "scales": [1, 0.5]}
    export_cam_network(network, ["red", "green"], tmp_path / "bundle", defaults=defaults)
    export_label(tmp_path / "bundle", tmp_path / "label.onnx")
    runner = Runner(tmp_path / "label.onnx")
    classifier = CamClassifier(tmp_path / "bundle", {"background_score": background_score})
    for scene in SCENES[:2]:
        image = np.ascontiguousarray(read_image(scene)[::2, ::2])
        found, expected = (
            runner(image=image, background_score=background_score),
            classifier.run(image),
        )
        label = expected.label()[0]
        assert 0 < (label > 0).mean() < 1
        assert agreement(found["pseudo_label"], label) >= 0.999


def test_the_graph_names_its_classes(folder: Path, label: Runner) -> None:
    properties = label.session.get_modelmeta().custom_metadata_map
    assert tuple(properties["classes"].split("\n")) == Bundle.load("demo").require_cam().classes


def test_everything(folder: Path) -> None:
    export_everything("demo", folder / "everything.onnx")
    everything = Runner(folder / "everything.onnx")
    image = read_image(SCENES[2])
    found, expected = everything(image=image), MaskGenerator("demo", prompts="grid").generate(image)
    assert np.array_equal(found["boxes"], expected.boxes)
    masks = np.unpackbits(found["mask_bits"], axis=2, count=image.shape[1]).astype(bool)
    for index, mask in enumerate(masks):
        assert (mask != expected.dense(index)).mean() <= 1e-3
    # A grid of one's own
    numbers = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    one = everything(image=image, points=np.array([[0.5, 0.5]]), **numbers)
    assert 0 < len(one["boxes"]) <= 3 and len(one["mask_bits"]) == len(one["boxes"])


def test_a_bundle_without_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no CAM classifier"):
        export_label(replace(Bundle.load("demo"), cam=None), tmp_path / "label.onnx")
    assert not (tmp_path / "label.onnx").exists()


@pytest.mark.parametrize("export", [export_refine, lambda out: export_label("demo", out)])
def test_files_of_others_are_kept(tmp_path: Path, export: Callable[[Path], None]) -> None:
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="is no graph of this package's"):
        export(theirs)
    assert theirs.read_bytes() == b"not a graph"
    with pytest.raises(ExportError, match=r"expected a name that ends in \.onnx"):
        export(tmp_path / "label")
    export(tmp_path / "ours.onnx")
    export(tmp_path / "ours.onnx")


def test_commands(tmp_path: Path) -> None:
    assert "give --out" in failed(run("export", "label", "demo"), 2)
    assert run("export", "refine", "--out", tmp_path / "refine.onnx").exit_code == 0
    done = run("export", "everything", "demo", "--out", tmp_path / "everything.onnx")
    assert done.exit_code == 0 and "wrote" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["everything.onnx", "refine.onnx"]
