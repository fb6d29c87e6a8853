"""Shared fixtures."""

import fcntl
import hashlib
from pathlib import Path

import pytest
import torch

import samrefine_export
from samrefine_export.cam import export_cam_network
from samrefine_export.sam import export_sam_module
from tests.small_cam import CLASSES, small_cam
from tests.small_sam import small_sam


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all xdist workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


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


def _exporter_digest() -> str:
    """Changes whenever the small bundle might."""
    here = Path(__file__).parent
    exporter = sorted(Path(samrefine_export.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(torch.__version__.encode())
    for path in (*exporter, Path(__file__), here / "small_sam.py", here / "small_cam.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
