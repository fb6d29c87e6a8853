"""Shared fixtures."""

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import samrefine_export
from samrefine_export.cam import export_cam_network
from samrefine_export.sam import export_sam_module
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.predictor import Predictor
from tests.photos import synthetic
from tests.small_cam import CLASSES, small_cam
from tests.small_sam import small_sam


@pytest.fixture(scope="session")
def small_bundle(request: pytest.FixtureRequest) -> Path:
    """Bundle of `small_sam(0)` and `small_cam()`; not to be changed.

    The first worker that wants it exports it. It is kept between runs until the exporter or the
    networks change.
    """
    cache = request.config.cache.mkdir("small_bundle")
    folder = cache / _exporter_digest()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache / f"{folder.name}.unfinished"
            export_sam_module(small_sam(0), unfinished, arch="small", source={"random_weights": 0})
            export_cam_network(small_cam(), CLASSES, unfinished, arch="colours", name="small")
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def lively_bundle(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with a mask threshold and defaults at which some dozens of masks of
    different shapes survive, as a trained SAM's do; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "lively"
    shutil.copytree(small_bundle, folder)
    predictor = Predictor(Bundle.load(folder), threads=1)
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


def _exporter_digest() -> str:
    """Changes whenever the small bundle might."""
    here = Path(__file__).parent
    exporter = sorted(Path(samrefine_export.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(torch.__version__.encode())
    for path in (*exporter, Path(__file__), here / "small_sam.py", here / "small_cam.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
