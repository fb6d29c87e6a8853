"""Bundles of strangers on the command line: one line says what is wrong, and no image is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.bundle import sha256_of
from tests.bundles import Change, change, put, put_text
from tests.command import failed, files_in, run, write_image
from tests.onnx_bytes import external, field, model

GAIN = np.float32(20).tobytes()
"""The factor of the logits in the small bundle's classifier, as its file holds it."""


@pytest.fixture
def bundle(tmp_path: Path, lively_bundle: Path) -> Path:
    """A bundle to be spoiled."""
    return Path(shutil.copytree(lively_bundle, tmp_path / "bundle"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An image of colours, and a black one between two of them."""
    folder = tmp_path / "images"
    for seed, name in enumerate(("a", "c")):
        write_image(folder / f"{name}.png", seed)
    Image.new("RGB", (56, 40)).save(folder / "b.png")
    return folder


def write_graph(bundle: Path, content: bytes) -> None:
    """Give the classifier another graph, with its hash."""
    path = bundle / "cam.onnx"
    path.write_bytes(content)
    change(bundle, put("graphs", "cam", "files", 0, "sha256", value=sha256_of(path)))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("sam", "image_size", value=60000), "sam.image_size is 60000, expected at most 4096"),
        (put("sam", "embedding", 0, value=-32), "sam.embedding[0] is -32, expected at least 1"),
        (put("sam", "std", 1, value=0), "sam.std[1] is 0, expected at least 0.0001"),
        (put("sam", "embedding", value=[32, 24, 24]), "graph 'encoder' gives image_embeddings fl"),
        (put("cam", "stride", value=0), "cam.stride is 0"),
        (put("cam", "classes", value=["a", "a", "b"]), "cam.classes is ['a', 'a', 'b']"),
        (put("name", value="x\x1b[2J\nError: y"), "name is 'x\\x1b[2J\\nError: y'"),
        (put("graphs", "cam", "outputs", 0, "name", value="maps"), "graph 'cam' gives no cam"),
        (put("graphs", "cam", "files", 0, "file", value="../cam.onnx"), "which lies outside"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_every_command_refuses_an_unsound_bundle(
    bundle: Path, images: Path, edit: Change, message: str
) -> None:
    change(bundle, edit)
    out = images.parent / "out"
    assert message in failed(run("inspect", bundle), 2)
    assert message in failed(run("label", images, "--bundle", bundle, "--out", out), 2)
    assert message in failed(run("masks", images, "--bundle", bundle, "--out", out), 2)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_none(bundle: Path, text: str) -> None:
    put_text(bundle, "sam", "mask_threshold", text=text)
    assert "is not readable JSON" in failed(run("inspect", bundle), 2)


def test_external_data_that_inspect_could_not_vouch_for(bundle: Path) -> None:
    (bundle / "more.data").write_bytes(bytes(12))
    write_graph(bundle, model(field(5, external("more.data"))))
    message = failed(run("inspect", bundle), 2)
    assert message == (
        "graph 'cam' reads external data from 'more.data', expected a file that manifest.json "
        "lists for it"
    )


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"points_per_side": 20000}, "points_per_side is 20000, expected a whole number from 1"),
        ({"crop_n_layers": 12}, "crop_n_layers is 12, expected a whole number from 0 to 5"),
        ({"points_per_batch": 1e9}, "points_per_batch is 1000000000.0, expected a whole number"),
        ({"memory_mb": "all"}, "memory_mb is 'all', expected a whole number"),
        ({"point_grids": 5}, "point_grids"),
    ],
    ids=str,
)
def test_defaults_out_of_range(
    bundle: Path, images: Path, defaults: dict[str, object], message: str
) -> None:
    change(bundle, put("defaults", value=defaults))
    out = images.parent / "out"
    assert message in failed(run("masks", images, "--bundle", bundle, "--out", out), 2)
    assert not out.exists() or files_in(out) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--points-per-side", 20000],
        ["--crop-n-layers", 12],
        ["--threads", 100_000],
        ["--memory", 10**9],
        ["--points-per-batch", 10**6],
    ],
    ids=str,
)
def test_options_out_of_range(bundle: Path, images: Path, options: list[object]) -> None:
    result = run("masks", images, "--bundle", bundle, "--out", images.parent / "out", *options)
    assert f"Invalid value for '{options[0]}': {options[1]} is not in the range" in failed(
        result, 2
    )


def test_an_image_on_which_a_graph_gives_no_finite_numbers(bundle: Path, images: Path) -> None:
    """The factor is absurd, but times the black image's mean it is zero."""
    content = (bundle / "cam.onnx").read_bytes()
    assert content.count(GAIN) == 1
    write_graph(bundle, content.replace(GAIN, np.float32(1e30).tobytes()))
    out = images.parent / "out"
    result = run("label", images, "--bundle", bundle, "--out", out, "--threads", 1)
    assert result.exit_code == 1
    assert "1 done, 2 failed" in result.stderr
    reason = "graph 'cam' gave logits with NaN, infinite or absurd values: "
    for name in ("a.png", "c.png"):
        assert f"{name}: {reason}" in result.stderr
    assert [name for name in files_in(out) if name.endswith("b.png")]


def test_a_graph_that_gives_nan_for_every_image(bundle: Path, images: Path) -> None:
    content = (bundle / "cam.onnx").read_bytes()
    write_graph(bundle, content.replace(GAIN, np.float32(np.nan).tobytes()))
    out = images.parent / "out"
    result = run("label", images, "--bundle", bundle, "--out", out, "--threads", 1)
    assert result.exit_code == 1 and "0 done, 3 failed" in result.stderr


def test_limits_are_raised_by_the_environment(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(bundle, put("later", value=" " * (5 << 20)))
    message = failed(run("inspect", bundle), 2)
    assert "SAMREFINE_BUNDLE_LIMITS=2 in the environment doubles all limits" in message
    monkeypatch.setenv("SAMREFINE_BUNDLE_LIMITS", "2")
    assert run("inspect", bundle).exit_code == 0
    monkeypatch.setenv("SAMREFINE_BUNDLE_LIMITS", "a\nb")
    assert "SAMREFINE_BUNDLE_LIMITS is 'a\\nb', expected a whole number" in failed(
        run("inspect", bundle), 2
    )


def test_texts_of_the_manifest_are_printed_in_one_line_each(bundle: Path) -> None:
    change(bundle, put("caution", value="first\x1b[31m\nError: second"))
    change(bundle, put("sam", "note", value="a\nb\x07"))
    result = run("inspect", bundle)
    assert result.exit_code == 0
    assert "  note: a\\nb\\x07" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert json.loads(run("inspect", bundle, "--json").stdout)["sam"]["note"] == "a\nb\x07"
