"""Bundles: what is sound loads, and its parts are what the manifest says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import BundleError
from tests.bundles import change, drop, put, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_sound_bundle(folder: Path) -> None:
    bundle = Bundle.load(str(folder))
    assert bundle.name == "tiny"
    assert bundle.precision == "fp32"
    assert bundle.random_seed is None
    assert list(bundle.graphs) == ["encoder", "cam"]
    encoder = bundle.graph("encoder")
    assert encoder.path == (folder / "encoder.onnx").resolve()
    assert [path.name for path in encoder.files] == ["encoder.onnx", "encoder.data"]
    assert bundle.graph("cam").inputs[0].shape == ("batch", 3, "height", "width")
    sam = bundle.require_sam()
    assert sam.input_side == 1024
    assert sam.low_res_shape == (256, 256)
    assert sam.embedding == (256, 64, 64)
    assert np.array_equal(sam.mean, np.array([1, 2, 3], np.float32))
    assert bundle.require_cam().classes == ("cat", "dog")


def test_the_exported_bundle(small_bundle: Path) -> None:
    bundle = Bundle.load(small_bundle)
    everything = {f"everything_{part}" for part in ("image", "tokens", "masks", "finish")}
    assert set(bundle.graphs) == {"encoder", "decoder", "cam"} | everything
    assert bundle.random_seed == 0
    assert bundle.require_cam().classes == ("red", "green", "blue")
    assert bundle.require_sam().input_side == 256
    assert [tensor.name for tensor in bundle.graph("decoder").inputs] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    ]


def test_a_moved_bundle_and_a_linked_one(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert Bundle.load(tmp_path / "elsewhere").name == Bundle.load(tmp_path / "link").name


def test_parts_a_bundle_lacks(folder: Path) -> None:
    change(folder, drop("sam"))
    change(folder, put("cam", value=None))
    bundle = Bundle.load(folder)
    with pytest.raises(BundleError, match="holds no SAM; make one with export sam"):
        bundle.require_sam()
    with pytest.raises(BundleError, match="holds no CAM classifier; add it with export cam"):
        bundle.require_cam()
    with pytest.raises(BundleError, match=r"no 'decoder' graph \(it has: encoder, cam\)"):
        bundle.graph("decoder")


@pytest.mark.parametrize("part", ["sam", "cam"])
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_random_weights_are_known(folder: Path, part: str, seed: int) -> None:
    change(folder, put(part, "random_weights", value=seed))
    assert Bundle.load(folder).random_seed == seed
