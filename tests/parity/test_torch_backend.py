"""segment-anything as the reference of `verify` and `bench`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samrefine_export.errors import CheckpointError, ExportError
from samrefine_export.sam import torch_backend as module
from samrefine_export.sam.models import MODELS
from samrefine_export.sam.torch_backend import sam_of, torch_backend
from samrefine_runtime.backends import BACKENDS
from samrefine_runtime.bundle import Bundle, sha256_of
from samrefine_runtime.diagnosis.verify import verify
from tests.command import run, write_image
from tests.samples import ONE_THREAD, synthetic
from tests.small_sam import small_sam


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    torch.save(small_sam(0).state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "MODELS", {**MODELS, "small": lambda: small_sam(0)})
    monkeypatch.setitem(MODELS, "small", lambda: small_sam(0))
    yield


def test_the_bundle_is_segment_anything(lively_bundle: Path) -> None:
    """Encoder and decoder, points and boxes, in torch as published, up to rounding."""
    images = [synthetic((48, 72)), synthetic((60, 50), 1)]
    with torch_backend(small_sam(0)) as options:
        found = verify(
            lively_bundle, images, session=ONE_THREAD, reference=replace(options, threads=1)
        )
    assert found.is_within, [row.faults for row in found.comparisons]
    rows = {(row.what, row.fed): row for row in found.comparisons}
    assert 0 < (rows["encoder", "reference"].rms or 0) < 1e-5
    decoder = rows["decoder", "reference"]
    assert decoder.least_iou is not None and decoder.least_iou > 0.99
    assert 0 < (decoder.largest or 0) < 1e-3
    assert "torch" not in BACKENDS


def test_other_weights_are_noticed(lively_bundle: Path) -> None:
    with torch_backend(small_sam(1)) as options:
        found = verify(lively_bundle, [synthetic((48, 72))], session=ONE_THREAD, reference=options)
    faulty = {row.what for row in found.comparisons if row.faults}
    assert {"encoder", "decoder"} <= faulty


def test_checkpoint(tmp_path: Path, lively_bundle: Path, checkpoint: Path) -> None:
    image = write_image(tmp_path / "a.png")
    arguments = ["verify", lively_bundle, image, "--threads", 1, "--checkpoint", checkpoint]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    # Of a bundle that states its checkpoint's sha256
    bundle = tmp_path / "bundle"
    shutil.copytree(lively_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for digest, exit_code in ((sha256_of(checkpoint), 0), ("0" * 64, 2)):
        manifest["sam"]["checkpoint_sha256"] = digest
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        arguments[1] = bundle
        result = run(*arguments)
        assert result.exit_code == exit_code, result.output
    assert "is not what the bundle was exported from" in result.stderr


def test_checkpoint_by_name(
    tmp_path: Path, lively_bundle: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = {"weights": {"mine": {"url": "https://example.org/small.pth"}}}
    (tmp_path / "mine.json").write_text(json.dumps(registry))
    monkeypatch.setenv("SAMREFINE_REGISTRY", str(tmp_path / "mine.json"))
    monkeypatch.setenv("SAMREFINE_CACHE", str(tmp_path / "cache"))
    bundle = Bundle.load(lively_bundle)
    with pytest.raises(CheckpointError, match="samrefine pull mine"):
        sam_of(bundle, Path("mine"))
    (tmp_path / "cache" / "weights" / "mine").mkdir(parents=True)
    checkpoint.rename(tmp_path / "cache" / "weights" / "mine" / "small.pth")
    assert sam_of(bundle, Path("mine")).mask_decoder is not None


def test_weights_that_are_not_at_hand(lively_bundle: Path) -> None:
    bundle = Bundle.load(lively_bundle)
    assert sam_of(bundle, None)
    sam = {key: value for key, value in bundle.manifest["sam"].items() if key != "random_weights"}
    trained = replace(bundle, manifest={**bundle.manifest, "sam": sam})
    with pytest.raises(ExportError, match="has trained weights: give its checkpoint"):
        sam_of(trained, None)


def test_bench_runs_segment_anything_too(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    quick = ["--threads", 1, "--repeats", 1, "--points-per-side", 2]
    arguments = ["bench", image, "--bundle", lively_bundle, *quick, "--against", "torch"]
    result = run(*arguments, "--json")
    assert json.loads(result.stdout)["torch"]["seconds"] > 0
    assert "segment-anything in torch " in run(*arguments).stdout
