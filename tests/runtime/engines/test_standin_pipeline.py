"""The whole pipeline on stand-ins for CUDA and TensorRT: what the device has stays there.

This is no test of TensorRT: ONNX Runtime computes what engines give.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.engines import build_engines
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import run, write_image
from tests.samples import synthetic
from tests.standins.machine import Machine

IMAGE = synthetic((48, 72))


@pytest.fixture
def folder(lively_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lively_bundle, tmp_path / "bundle"))


def masks_of(folder: Path, backend: str, **settings: int) -> Masks:
    options = {"backend": backend, "threads": 1}
    return MaskGenerator(Bundle.load(folder), session=options, **settings).generate(IMAGE)


def same(actual: Masks, expected: Masks) -> bool:
    """Whether both are the same masks; the device resamples in another order of additions."""
    return len(actual) == len(expected) and all(
        np.count_nonzero(actual.dense(i) != expected.dense(i)) <= 1 for i in range(len(actual))
    )


def test_everything_mode(gpu: Machine, folder: Path) -> None:
    assert all(verdict.is_passed for verdict in build_engines(folder))
    expected = masks_of(folder, "cpu")
    gpu.behaviour.runs = 0
    actual = masks_of(folder, "tensorrt")
    assert len(expected) > 3 and gpu.behaviour.runs >= 5
    assert same(actual, expected)


def test_batches_beyond_the_engine_are_halved(
    gpu: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_engines(folder, {"most_prompts": 3})
    expected = masks_of(folder, "cpu")
    assert same(masks_of(folder, "tensorrt", points_per_batch=16), expected)
    assert "out of memory at 16 prompts per batch, halving it" in caplog.messages


def test_too_little_memory_halves_batches(
    gpu: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_engines(folder)
    expected = masks_of(folder, "cpu")
    Machine.forget()
    gpu.set("limit", gpu.get("used") + (5 << 19))
    assert same(masks_of(folder, "tensorrt", points_per_batch=16), expected)
    assert "out of memory at 16 prompts per batch, halving it" in caplog.messages


def test_labels(gpu: Machine, folder: Path) -> None:
    build_engines(folder)
    bundle, present = Bundle.load(folder), np.array([True, False, True])
    fast, plain = (
        Labeler(bundle, session={"backend": name, "threads": 1}).label(IMAGE, present).label
        for name in ("auto", "cpu")
    )
    assert np.count_nonzero(fast != plain) <= 2


def test_verbose_commands_say_what_runs(gpu: Machine, folder: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "images/a.png")
    build_engines(folder)
    result = run("masks", image, "--bundle", folder, "--out", tmp_path / "masks", "-v")
    assert result.exit_code == 0, result.output
    (found,) = (tmp_path / "masks").glob("*.json")
    assert json.loads(found.read_text())
