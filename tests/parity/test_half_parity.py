"""Graphs in half precision with trained weights: what comes out is that of fp32 within bounds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from samrefine_export.bundle_writer import BundleWriter
from samrefine_export.demo.evaluate import held_out_scenes
from samrefine_export.demo.model import build_demo_sam
from samrefine_export.graph import write_half
from samrefine_export.sam import export_sam_module
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.openvino import open_openvino
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import HALVES, Bundle
from samrefine_runtime.compare import difference
from samrefine_runtime.diagnosis.verify import Tolerances, verify
from samrefine_runtime.image import read_image
from tests.samples import voc_images

WEIGHTS = Path(__file__).parents[1] / "data" / "demo_sam.pt"

BOUNDS = {"mean_iou": 0.998, "least_iou": 0.93, "score_shift": 0.01, "label_agreement": 0.995}
"""What fp16 may change, as measured with a margin: 0.9984, 0.94, 0.003 on such images."""


pytestmark = pytest.mark.xdist_group("half parity")  # one process: its bundle takes long


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded demo networks in all precisions."""
    sam = build_demo_sam()
    sam.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    folder = tmp_path_factory.mktemp("half") / "bundle"
    demo = Bundle.load("demo")
    export_sam_module(
        sam,
        folder,
        arch="demo",
        source={},
        defaults=demo.defaults,
        precision=list(HALVES),
    )
    with BundleWriter(folder) as writer:
        path = Path(shutil.copy(demo.graph("cam").path, writer.staging / "cam.onnx"))
        writer.add_graph("cam", path)
        for half in HALVES:
            writer.add_graph(f"cam.{half}", write_half(path, half, nn.Identity()))
        writer.set("cam", demo.manifest["cam"])
    return Bundle.load(folder)


def test_fp16(bundle: Bundle) -> None:
    images = [scene.image for scene in held_out_scenes(3)] + [read_image(p) for p in voc_images(2)]
    fp16 = SessionOptions(backend="cpu", threads=2, precision="fp16")
    found = verify(bundle, images, session=fp16, tolerances=Tolerances.of("fp16", **BOUNDS))
    assert found.is_within, found.comparisons
    assert found.precision == "fp16" and not found.not_compared
    # It is another precision that was compared
    (encoder,) = (row for row in found.comparisons if row.what == "encoder")
    assert encoder.rms is not None and encoder.rms > 1e-4


@pytest.mark.parametrize("name", ["encoder", "everything_image", "cam"])
def test_bf16(bundle: Bundle, name: str) -> None:
    """OpenVINO reads the graphs written in bf16, and computes in fp32 between the roundings."""
    pytest.importorskip("openvino")
    graph = bundle.graph(name)
    generator = np.random.default_rng(0)
    shape = [side if isinstance(side, int) else 96 for side in graph.inputs[0].shape]
    feeds = {graph.inputs[0].name: generator.standard_normal(shape).astype(np.float32)}
    written = open_openvino(graph.variants["bf16"], SessionOptions(threads=2)).run(feeds)
    in_single = open_cpu(graph, SessionOptions(threads=2)).run(feeds)
    errors = [difference(written[output], in_single[output]).rms for output in in_single]
    assert 1e-4 < max(errors) < 0.03
