"""Shared fixtures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.sam.predictor import Predictor
from tests.samples import DATA, ONE_THREAD, synthetic
from tests.standins.machine import Machine, compile_cudart, machine

# Ten minutes and more for each test of tests/fuzz, which has no number of examples of its own:
# python -m pytest tests/fuzz --hypothesis-profile=long
settings.register_profile(
    "long", max_examples=50_000, deadline=None, suppress_health_check=list(HealthCheck)
)

# A busy machine is no failure
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def small_bundle() -> Path:
    """The bundle that `tests.small_bundle` made of random weights; not to be changed."""
    return DATA / "small_bundle"


@pytest.fixture(scope="session")
def lively_bundle(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with a mask threshold and defaults at which some dozens of masks of
    different shapes survive, as a trained SAM's do; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "lively"
    shutil.copytree(small_bundle, folder)
    predictor = Predictor(Bundle.load(folder), session=ONE_THREAD)
    predictor.set_image(synthetic((48, 72)))
    points = np.random.default_rng(0).random((30, 1, 2)) * [72, 48]
    logits, scores = predictor.predict_low_res(points, np.ones((30, 1)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["name"] = "lively"
    manifest["sam"]["mask_threshold"] = float(np.quantile(logits, 0.9))
    manifest["defaults"] = {
        "points_per_side": 4,
        "pred_iou_thresh": float(np.quantile(scores, 0.2)),
        "stability_score_thresh": 0.5,
        "stability_score_offset": 0.05 * float(logits.std()),
        "box_nms_thresh": 1.0,
        "crop_nms_thresh": 1.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for CUDA's runtime library."""
    return compile_cudart(tmp_path_factory.mktemp("cudart"))


@pytest.fixture
def gpu(cudart: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with stand-ins for CUDA and TensorRT."""
    with machine(cudart, tmp_path_factory.mktemp("gpu")) as found:
        yield found


@pytest.fixture
def engine_bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the small bundle, into which engines may be built."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))
