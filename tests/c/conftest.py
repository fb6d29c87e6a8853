"""What tests of the C library need: ONNX Runtime, graphs, images and a program that calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_rt.demo import IMAGES
from tests.c.programs import CHECK, compiled, onnxruntime_root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnxruntime_root(tmp_path_factory.mktemp("c") / "onnxruntime")


@pytest.fixture(scope="session")
def check(root: Path) -> Path:
    return compiled(root, CHECK, root / "check")


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three graphs of the embedded bundle."""
    pytest.importorskip("torch", reason="graphs are made by the exporter, which needs torch")
    from samrefine_export.pipeline import export_everything, export_label, export_refine

    folder = tmp_path_factory.mktemp("graphs")
    export_label("demo", folder / "label.onnx")
    export_everything("demo", folder / "everything.onnx")
    export_refine(folder / "refine.onnx")
    return folder


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn scene as a PPM."""
    path = tmp_path_factory.mktemp("scene") / "scene.ppm"
    with Image.open(sorted(IMAGES.glob("*.jpg"))[0]) as image:
        image.convert("RGB").save(path)
    return path


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise as a PPM, of an odd width."""
    path = tmp_path_factory.mktemp("noise") / "noise.ppm"
    pixels = np.random.default_rng(0).integers(0, 256, (35, 41, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
