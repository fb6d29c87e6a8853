"""What graphs take and give, by their names: a manifest that contradicts itself does not load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.bundle import Bundle, TensorSpec
from tests.bundles import Change, change, drop, put, refused, tensor, write_bundle
from tests.samples import DATA


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the small bundle, which has all graphs there are."""
    return Path(shutil.copytree(DATA / "small_bundle", tmp_path / "bundle"))


def shape(graph: str, kind: str, index: int, *sides: int | str) -> Change:
    return put("graphs", graph, kind, index, "shape", value=list(sides))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            put("sam", "embedding", value=[32, 24, 24]),
            "graph 'encoder' gives image_embeddings float32 (1, 32, 16, 16), expected "
            "image_embeddings float32 (1, 32, 24, 24)",
        ),
        (put("sam", "embedding", 0, value=64), "expected image_embeddings float32 (1, 64, 16, 16)"),
        (put("sam", "image_size", value=1024), "expected image float32 (1, 3, 1024, 1024)"),
        (put("cam", "classes", value=["a"]), "expected cam float32 (B, 1, h, w)"),
        (put("cam", "has_background", value=True), "expected cam float32 (B, 4, h, w)"),
        (
            put("graphs", "encoder", "outputs", 0, "name", value="embeddings"),
            "graph 'encoder' gives no image_embeddings, expected image_embeddings float32",
        ),
        (put("graphs", "encoder", "inputs", 0, "name", value="x"), "'encoder' takes no image, exp"),
        (put("graphs", "cam", "outputs", 1, "name", value="scores"), "'cam' gives no logits, exp"),
        (put("graphs", "cam", "outputs", 1, "dtype", value="float16"), "logits float16 (batch, 3)"),
        (put("graphs", "decoder", "inputs", 4, "name", value="x"), "takes no has_mask_input"),
        (shape("encoder", "outputs", 0, 1, "c", 16, 16), "image_embeddings float32 (1, c, 16, 16)"),
        (shape("encoder", "outputs", 0, 1, 32, 256), "image_embeddings float32 (1, 32, 256)"),
        (shape("decoder", "inputs", 1, 8, "points", 2), "point_coords float32 (8, points, 2)"),
        (shape("decoder", "outputs", 0, "n", 3, 64, 64), "low_res_masks float32 (n, 3, 64, 64)"),
        (shape("decoder", "outputs", 1, "n", 4, 1), "iou_predictions float32 (n, 4, 1)"),
        (shape("everything_image", "inputs", 0, 1, 32, 8, 8), "image_embeddings float32 (1, 32, 8"),
        (shape("everything_image", "outputs", 12, 256, 8), "upscaling float32 (256, 8), expected"),
        (shape("everything_image", "outputs", 0, 4, 4, 64), "layer0_keys float32 (4, 4, 256), exp"),
        (drop("graphs", "everything_image", "outputs", 0), "takes layer0_keys float32 (4, 4, 256)"),
        (drop("graphs", "everything_image"), "takes layer0_keys float32 (4, 4, 256), expected no"),
        (drop("graphs", "everything_tokens", "inputs", 2), "takes no layer0_values, expected lay"),
        (shape("everything_tokens", "outputs", 0, "n", 256), "gives scale float32 (n, 256), expe"),
        (shape("everything_tokens", "outputs", 4, "n", 4), "iou_predictions float32 (n, 4), expe"),
        (
            shape("everything_tokens", "outputs", 1, "n", 8, 256),
            "graph 'everything_masks' takes weights float32 (prompts, 56, 256), expected weights "
            "float32 (n, 8, 256)",
        ),
        (drop("graphs", "everything_tokens"), "takes scale float32 (prompts, 1, 256), expected n"),
        (drop("graphs", "everything_masks", "inputs", 4), "takes no upscaling, expected upscalin"),
        (
            put("graphs", "everything_masks", "inputs", 5, "dtype", value="int32"),
            "takes prompt int32 (chosen_prompts), expected prompt int64 (K)",
        ),
        (shape("everything_masks", "outputs", 0, "s", 32, 32), "low_res_masks float32 (s, 32, 32)"),
        (shape("everything_finish", "inputs", 1, "h", 32), "takes rows float32 (h, 32), expected"),
        (shape("everything_finish", "inputs", 3, 1), "takes thresholds float32 (1), expected thr"),
        (
            put("graphs", "everything_finish", "outputs", 2, "dtype", value="bool"),
            "gives mask_bits bool (masks, height, (width//8)), expected mask_bits uint8 (S, H, B)",
        ),
        (shape("cam", "inputs", 0, "b", 3, 224, 224), "image float32 (b, 3, 224, 224), expected"),
        (shape("cam", "inputs", 0, 1, 3, "h", "w"), "image float32 (1, 3, h, w), expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_graphs_that_do_not_fit_their_role(folder: Path, edit: Change, message: str) -> None:
    change(folder, edit)
    assert message in refused(folder)


def test_outputs_beyond_the_needed_ones(folder: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["graphs"]["cam"]["outputs"].append(tensor("features", "b", 8))
        manifest["graphs"]["later"] = manifest["graphs"]["cam"]

    change(folder, edit)
    assert "later" in Bundle.load(folder).graphs


def test_inputs_beyond_the_needed_ones(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")

    def edit(manifest: dict[str, Any]) -> None:
        manifest["graphs"]["cam"]["inputs"].append(tensor("scale"))

    change(folder, edit)
    assert "graph 'cam' takes scale float32 (), expected nothing but image" in refused(folder)


def test_names_that_would_turn_the_line_around(folder: Path) -> None:
    change(folder, put("graphs", "cam", "inputs", 0, "name", value="im\u202eage"))
    assert "graph 'cam' takes no image" in refused(folder)
    change(folder, put("graphs", "everything_image", "outputs", 0, "name", value="a\u202eb"))
    change(folder, put("graphs", "cam", "inputs", 0, "name", value="image"))
    assert "takes no a\\u202eb, expected a\\u202eb float32" in refused(folder)


@pytest.mark.parametrize(
    ("have", "want", "as_output", "as_input"),
    [
        ((1, "n"), (1, "n"), True, True),
        ((1, "m"), (1, "n"), True, True),
        ((1, 5), (1, "n"), True, False),
        ((1, "n"), (1, 5), False, False),
        ((2, "n"), (1, "n"), False, False),
        ((1,), (1, "n"), False, False),
        ((), (), True, True),
    ],
)
def test_shapes_that_fit(
    have: tuple[int | str, ...], want: tuple[int | str, ...], as_output: bool, as_input: bool
) -> None:
    actual, wanted = (TensorSpec("x", "float32", sides) for sides in (have, want))
    assert actual.fits(wanted, may_be_fixed=True) == as_output
    assert actual.fits(wanted, may_be_fixed=False) == as_input
    assert not actual._replace(dtype="float16").fits(wanted, may_be_fixed=True)
