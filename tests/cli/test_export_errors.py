"""`samrefine export sam`: what it refuses, in one line and with nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from samrefine_export.precision import PRECISIONS
from samrefine_export.sam import MODELS
from samrefine_runtime.bundle import Bundle
from tests.command import failed, files_in, run
from tests.small_sam import small_sam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a checkpoint of the small SAM."""
    monkeypatch.chdir(tmp_path)
    torch.save(small_sam().state_dict(), tmp_path / "small.pth")
    return tmp_path


def refused(folder: Path, *arguments: object) -> str:
    before = files_in(folder)
    message = failed(run("export", "sam", "--out", "bundle", *arguments), 2)
    assert files_in(folder) == before
    assert not (folder / "bundle").exists()
    return message


def test_the_command_offers_every_precision() -> None:
    """It lists them by itself: importing the exporter would load torch for --help."""
    text = run("export", "sam", "--help").stdout
    assert all(precision in text for precision in PRECISIONS)


def test_unknown_precisions(folder: Path) -> None:
    for given in ("fp8", "fp16,fp8", "", "fp16,"):
        message = refused(folder, "--model", "vit_b", "--random-weights", 0, "--precision", given)
        assert message == (
            f"precision is {given!r}, expected one or more of fp32, int8, fp16, bf16"
        )
    message = refused(folder, "--model", "vit_b", "--random-weights", 0, "--precision", "int8,fp32")
    assert message == "precision is 'int8,fp32', expected one of fp32, int8"


def test_unknown_model(folder: Path) -> None:
    message = refused(folder, "--model", "vit_x", "--checkpoint", "small.pth")
    assert message == "model is 'vit_x', expected one of vit_b, vit_l, vit_h, mobile_sam"


@pytest.mark.parametrize("options", [[], ["--checkpoint", "small.pth", "--random-weights", 0]])
def test_neither_or_both_kinds_of_weights(folder: Path, options: list[object]) -> None:
    message = refused(folder, "--model", "vit_b", *options)
    assert "exactly one of a checkpoint and random weights is needed" in message


@pytest.mark.parametrize("name", ["none.pth", "."])
def test_missing_checkpoint(folder: Path, name: str) -> None:
    message = refused(folder, "--model", "vit_b", "--checkpoint", name)
    assert "does not exist or is not a file" in message or "is a directory" in message


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_truncated_checkpoint(folder: Path, size: int) -> None:
    whole = (folder / "small.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[:size])
    message = refused(folder, "--model", "vit_b", "--checkpoint", "cut.pth")
    assert message.startswith("cut.pth is ")
    assert "checkpoint" in message


def test_file_that_is_no_checkpoint(folder: Path) -> None:
    (folder / "notes.pth").write_text("not a checkpoint\n" * 100)
    assert "notes.pth is " in refused(folder, "--model", "vit_b", "--checkpoint", "notes.pth")
    torch.save([1, 2, 3], folder / "list.pth")
    message = refused(folder, "--model", "vit_b", "--checkpoint", "list.pth")
    assert "holds no state dict" in message


def test_checkpoint_that_would_run_code(folder: Path) -> None:
    torch.save({"model": Runs(folder / "pwned")}, folder / "evil.pth")
    message = refused(folder, "--model", "vit_b", "--checkpoint", "evil.pth")
    assert "could run code" in message


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("model", ["vit_b", "mobile_sam"])
def test_checkpoint_of_another_model_names_the_keys(folder: Path, model: str) -> None:
    message = refused(folder, "--model", model, "--checkpoint", "small.pth")
    assert f"small.pth as {model}: the weights belong to another network: " in message
    assert "missing (image_encoder." in message
    if model == "vit_b":
        assert " is (1, 16, 16, 48), expected (1, 64, 64, 768)" in message
    else:
        assert "unexpected (image_encoder." in message


def test_one_missing_key_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "vit_b", small_sam)  # type: ignore[arg-type]
    state = torch.load("small.pth", weights_only=True)
    del state["mask_decoder.iou_token.weight"]
    state["stranger"] = torch.zeros(1)
    torch.save(state, "changed.pth")
    message = refused(folder, "--model", "vit_b", "--checkpoint", "changed.pth")
    assert "1 missing (mask_decoder.iou_token.weight); 1 unexpected (stranger)" in message


def test_output_that_is_no_bundle(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    arguments = ["export", "sam", "--model", "vit_b", "--random-weights", 0, "--out"]
    assert "is not a bundle: it has no manifest.json" in failed(run(*arguments, "notes", "-q"), 2)
    assert files_in(folder / "notes") == ["mine.txt"]
    assert "is a file" in failed(run(*arguments, "small.pth"), 2)


def test_failed_export_leaves_an_existing_bundle(
    folder: Path, small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first graph is exported, the second fails."""
    from samrefine_export.errors import ExportError
    from samrefine_export.sam import export as exporter

    def export_graph(
        module: object, inputs: object, outputs: object, path: Path, **options: object
    ) -> dict[str, Path]:
        if path.name == "decoder.onnx":
            raise ExportError("torch cannot export decoder.onnx: no more room")
        shutil.copy(small_bundle / "cam.onnx", path)
        return {}

    shutil.copytree(small_bundle, folder / "kept")
    before = {name: (folder / "kept" / name).read_bytes() for name in files_in(folder / "kept")}
    monkeypatch.setitem(MODELS, "vit_b", small_sam)  # type: ignore[arg-type]
    monkeypatch.setattr(exporter, "export_graph", export_graph)
    options = ["--model", "vit_b", "--checkpoint", "small.pth"]
    assert "no more room" in refused(folder, *options, "-q")
    assert "no more room" in failed(run("export", "sam", *options, "--out", "kept", "-q"), 2)
    after = {name: (folder / "kept" / name).read_bytes() for name in files_in(folder / "kept")}
    assert after == before
    assert Bundle.load(folder / "kept")
