"""Building with stand-ins for CUDA and TensorRT: the cache, the verdicts, what goes wrong.

This is no test of TensorRT: ONNX Runtime computes what engines give.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime import atomic, backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.tensorrt.store import EngineStore, Machine, Verdict
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.engines import build_engines
from samrefine_runtime.engines.build import _usable
from samrefine_runtime.errors import (
    BackendUnavailableError,
    BundleError,
    ImageError,
    OutputError,
    RunError,
    SamrefineError,
    SettingsError,
    StorageError,
)
from tests.command import failed, run
from tests.samples import ONE_THREAD
from tests.standins import machine
from tests.wrong_values import Kind, assert_says_what_is_expected, wrong_values

NAMES = ("encoder", "decoder", "everything_image", "cam")
TENSORRT = SessionOptions(backend="tensorrt")


@pytest.fixture
def folder(engine_bundle: Path) -> Path:
    """A bundle of four graphs, of which the encoder is there in fp16 too."""
    path = engine_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    graphs = {name: manifest["graphs"][name] for name in NAMES}
    shutil.copy(engine_bundle / "encoder.onnx", engine_bundle / "encoder.fp16.onnx")
    file = {**graphs["encoder"]["files"][0], "file": "encoder.fp16.onnx"}
    graphs["encoder.fp16"] = {**graphs["encoder"], "files": [file]}
    path.write_text(json.dumps({**manifest, "graphs": graphs}))
    return engine_bundle


@pytest.fixture(autouse=True)
def unchanged(folder: Path) -> Iterator[None]:
    """Whatever happens, nothing of the bundle itself is written, and nothing temporary stays."""
    before = contents(folder)
    yield
    assert contents(folder) == before
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def outcomes(verdicts: list[Verdict]) -> list[tuple[str, str, bool]]:
    return [(each.graph, each.precision, each.is_passed) for each in verdicts]


def open_all(folder: Path) -> dict[str, Any]:
    bundle = Bundle.load(folder, check_hashes=False)
    return {name: backends.open(bundle.graph(name), TENSORRT) for name in NAMES}


def replay(gpu: machine.Machine) -> list[str]:
    """What has been built since the last call."""
    built = list(gpu.behaviour.builds)
    gpu.behaviour.builds.clear()
    return built


def overflow(file: str, outputs: dict[str, np.ndarray]) -> None:
    if "fp16" in file:
        outputs["image_embeddings"][...] = np.nan


def test_engines_are_built_verified_and_used(
    gpu: machine.Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verdicts = build_engines(folder)
    assert outcomes(verdicts) == [
        ("encoder", "fp16", True),
        ("decoder", "tf32", True),
        ("everything_image", "tf32", True),
        ("cam", "tf32", True),
    ]
    with caplog.at_level(logging.INFO):
        sessions = open_all(folder)
    assert "graph encoder runs in TensorRT 10.3.0.26, fp16" in caplog.messages
    feeds = {"image": np.random.default_rng(0).random((2, 3, 24, 40), np.float32)}
    expected = backends.open(
        Bundle.load(folder).graph("cam"), SessionOptions(backend="cpu", threads=1)
    ).run(feeds)
    gpu.behaviour.runs = 0
    actual = sessions["cam"].run(feeds)
    assert gpu.behaviour.runs == 1
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def test_auto_takes_engines(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder)
    gpu.behaviour.runs = 0
    session = backends.open(Bundle.load(folder).graph("cam"), ONE_THREAD)
    session.run({"image": np.zeros((1, 3, 8, 8), np.float32)})
    assert gpu.behaviour.runs == 1


def test_a_precision_that_fails_is_followed_by_the_next(gpu: machine.Machine, folder: Path) -> None:
    gpu.behaviour.spoil = overflow
    verdicts = build_engines(folder)
    assert outcomes(verdicts)[:2] == [("encoder", "fp16", False), ("encoder", "tf32", True)]
    assert verdicts[0].reason == "image_embeddings is not finite"
    # The verdict is kept, the plan is not
    engine = folder / "engines" / verdicts[0].folder
    assert [path.name for path in engine.iterdir()] == ["verdict.json"]
    assert len(replay(gpu)) == 5
    assert outcomes(build_engines(folder)) == outcomes(verdicts)
    assert replay(gpu) == []
    assert open_all(folder)


def test_an_asked_for_precision_has_no_substitute(gpu: machine.Machine, folder: Path) -> None:
    gpu.behaviour.spoil = overflow
    verdicts = build_engines(folder, {"precision": "fp16"})
    assert ("encoder", "tf32", True) not in outcomes(verdicts)
    # What is fed by the encoder on the device, or feeds it, does not run in TensorRT either
    bundle = Bundle.load(folder)
    with pytest.raises(BackendUnavailableError, match="'decoder' passed its comparison here"):
        backends.open(bundle.graph("decoder"), TENSORRT)
    assert backends.open(bundle.graph("cam"), TENSORRT)


def test_graphs_that_share_tensors_have_engines_together(folder: Path) -> None:
    graphs = [Bundle.load(folder).graph(name) for name in NAMES]
    assert _usable(graphs, NAMES) == list(NAMES)
    assert _usable(graphs, ("decoder", "everything_image", "cam")) == ["cam"]
    assert _usable(graphs, ("encoder", "decoder", "everything_image")) == list(NAMES[:3])
    assert _usable(graphs, ()) == []


@pytest.mark.parametrize(
    ("change", "built"),
    [
        ({}, []),
        ({"workspace_mb": 5}, []),
        ({"most_prompts": 8}, ["decoder.onnx"]),
        ({"most_side": 512}, ["cam.onnx"]),
        ({"precision": "tf32"}, ["encoder.onnx"]),
    ],
)
def test_engines_are_built_again_for_what_changes_them(
    gpu: machine.Machine, folder: Path, change: dict[str, Any], built: list[str]
) -> None:
    build_engines(folder)
    replay(gpu)
    assert all(each.is_passed for each in build_engines(folder, change))
    assert replay(gpu) == built


def test_another_graph_or_tensorrt_builds_again(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder)
    replay(gpu)
    gpu.behaviour.version = "10.3.0.30"
    import sys

    sys.modules["tensorrt"].__version__ = "10.3.0.30"  # type: ignore[attr-defined]
    gpu.forget()
    message = (
        r"no engine of graph 'cam' is built for TensorRT 10\.3\.0\.30 on Stand-in \(SM 8\.7\); the "
        r"engines are for TensorRT 10\.3\.0\.26 on Stand-in \(SM 8\.7\): samrefine build"
    )
    with pytest.raises(BackendUnavailableError, match=message):
        backends.open(Bundle.load(folder).graph("cam"), TENSORRT)
    build_engines(folder)
    assert len(replay(gpu)) == 4
    assert open_all(folder)


def test_what_was_measured_serves_the_next_build(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder)
    assert gpu.behaviour.timing_caches == [b"", b"t", b"tt", b"ttt"]
    # Of a stranger, nothing is taken
    (file,) = (folder / "engines").glob("*.timing")
    file.write_bytes(b"0" * 64 + b"evil")
    gpu.behaviour.timing_caches.clear()
    build_engines(folder, {"most_side": 512})
    assert gpu.behaviour.timing_caches == [b""]


def test_tf32_is_left_where_it_is_not_enough(gpu: machine.Machine, folder: Path) -> None:
    def spoil(file: str, outputs: dict[str, np.ndarray]) -> None:
        if file == "cam.onnx" and gpu.behaviour.tf32[-1]:
            outputs["cam"] *= 1.1

    gpu.behaviour.spoil = spoil
    verdicts = build_engines(folder)
    assert outcomes(verdicts)[-2:] == [("cam", "tf32", False), ("cam", "fp32", True)]
    assert verdicts[-2].reason == "rms 0.1, expected at most 0.02"
    assert gpu.behaviour.tf32 == [False, True, True, True, False]


def test_the_workspace(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder, {"workspace_mb": 7})
    assert set(gpu.behaviour.workspaces) == {7_000_000}


def test_progress_names_what_is_built(gpu: machine.Machine, folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_engines(folder, progress=lambda *step: seen.append(step))
    assert seen[:2] == [("encoder fp16", 1, 2), ("encoder fp16", 2, 2)]
    assert seen[-1] == ("cam tf32", 2, 2)


def test_other_images_judge_anew(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder)
    replay(gpu)
    gpu.behaviour.spoil = overflow
    images = [np.full((40, 60, 3), value, np.uint8) for value in (0, 255)]
    verdicts = build_engines(folder, images=images)
    assert outcomes(verdicts)[:2] == [("encoder", "fp16", False), ("encoder", "tf32", True)]
    # The plan that is there is taken, but for the precision that was not needed before
    assert replay(gpu) == ["encoder.onnx"]
    assert not (folder / "engines" / verdicts[0].folder / "engine.plan").exists()


# What goes wrong


@pytest.mark.parametrize("size", [0, 10, -1])
def test_a_truncated_plan(gpu: machine.Machine, folder: Path, size: int) -> None:
    verdicts = build_engines(folder)
    plan = folder / "engines" / verdicts[-1].folder / "engine.plan"
    plan.write_bytes(plan.read_bytes()[:size])
    message = r"cam-tf32-\w+/engine\.plan is damaged \(it is not what was built\): samrefine build$"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        open_all(folder)
    assert caught.value.is_broken
    # It is mended by the next build, which leaves the others
    replay(gpu)
    build_engines(folder)
    assert replay(gpu) == ["cam.onnx"]
    assert open_all(folder)


def test_a_plan_that_is_gone(gpu: machine.Machine, folder: Path) -> None:
    verdicts = build_engines(folder)
    (folder / "engines" / verdicts[-1].folder / "engine.plan").unlink()
    with pytest.raises(BackendUnavailableError, match=r"damaged \(No such file or directory\)"):
        open_all(folder)


def forge(path: Path, **changes: Any) -> None:
    signed = json.loads(path.read_text())
    signed["verdict"] |= changes
    path.write_text(json.dumps(signed))


def test_engines_of_strangers_are_not_run(gpu: machine.Machine, folder: Path) -> None:
    """A plan is a program."""
    verdicts = build_engines(folder)
    message = "was not built and verified by this user, and engines of others are not run"
    # Of another user
    gpu.secret.write_bytes(b"x" * 32)
    with pytest.raises(BackendUnavailableError, match=message):
        open_all(folder)
    # Without a secret
    gpu.secret.unlink()
    with pytest.raises(BackendUnavailableError, match=message):
        open_all(folder)
    # A build makes them one's own
    replay(gpu)
    build_engines(folder)
    assert len(replay(gpu)) == 4 and open_all(folder)
    # A verdict that was changed
    forge(folder / "engines" / verdicts[-1].folder / "verdict.json", plan_sha256="0" * 64)
    with pytest.raises(BackendUnavailableError, match=message):
        open_all(folder)


def test_the_secret_is_the_users_alone(gpu: machine.Machine, folder: Path) -> None:
    build_engines(folder)
    assert gpu.secret.stat().st_mode & 0o077 == 0 and len(gpu.secret.read_bytes()) == 32


def test_a_verdict_of_another_graph(gpu: machine.Machine, folder: Path) -> None:
    """Two lines of the list are exchanged."""
    build_engines(folder)
    (path,) = (folder / "engines").glob("*.json")
    listed = json.loads(path.read_text())
    listed["engines"]["cam"] = listed["engines"]["encoder"]
    path.write_text(json.dumps(listed))
    with pytest.raises(BackendUnavailableError, match="'cam' is of another graph or machine"):
        open_all(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"engines": 5}', '{"engines": {"cam": "../x"}}']
)
def test_a_damaged_list(gpu: machine.Machine, folder: Path, content: str) -> None:
    build_engines(folder)
    (path,) = (folder / "engines").glob("*.json")
    path.write_text(content)
    with pytest.raises(BackendUnavailableError, match="samrefine build"):
        open_all(folder)


def test_two_builds_at_once(gpu: machine.Machine, folder: Path) -> None:
    caught: list[BaseException] = []

    def build_too() -> None:
        try:
            build_engines(folder)
        except BaseException as error:
            caught.append(error)

    def second() -> None:
        if not caught:
            other = threading.Thread(target=build_too)
            other.start()
            other.join()

    gpu.behaviour.while_building = second
    assert len(build_engines(folder)) == 4
    (error,) = caught
    assert isinstance(error, RunError)
    assert str(error).endswith("engines: another build is writing engines here")
    assert open_all(folder)


def test_a_full_disk(gpu: machine.Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that were there stay, and serve."""
    build_engines(folder)

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_replace_folder", full)
        with pytest.raises(StorageError, match=r"engines/cam-tf32-.*No space left on device"):
            build_engines(folder, {"most_side": 512})
    assert open_all(folder)


def test_a_full_disk_from_the_start(
    gpu: machine.Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match="No space left on device"):
            build_engines(folder)
    with pytest.raises(BackendUnavailableError, match="no engine of graph"):
        open_all(folder)


def test_an_interrupted_build_is_gone_on_with(gpu: machine.Machine, folder: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("everything_image"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engines(folder, progress=stop)
    replay(gpu)
    build_engines(folder)
    assert replay(gpu) == ["everything_image.onnx", "cam.onnx"]


def test_a_graph_that_tensorrt_rejects(gpu: machine.Machine, folder: Path) -> None:
    gpu.behaviour.parser_errors = {"cam.onnx": ["no importer for NonZero"]}
    verdicts = build_engines(folder)
    assert verdicts[-1].reason.startswith("TensorRT 10.3.0.26 rejects cam.onnx: no importer for")
    # Not kept: another release may take it
    gpu.behaviour.parser_errors = {}
    assert all(each.is_passed for each in build_engines(folder))


def test_the_sample_does_not_fit(gpu: machine.Machine, folder: Path) -> None:
    gpu.set("limit", 1 << 20)
    verdicts = build_engines(folder)
    assert any("do not fit into the GPU's memory" in each.reason for each in verdicts)


def test_foreign_files_stay(gpu: machine.Machine, folder: Path) -> None:
    verdicts = build_engines(folder)
    engine = folder / "engines" / verdicts[-1].folder
    (engine / "notes.txt").write_text("mine")
    (folder / "engines" / "notes.txt").write_text("mine")
    (engine / "engine.plan").unlink()
    build_engines(folder)
    assert (
        (engine / "notes.txt").read_text() == (folder / "engines/notes.txt").read_text() == "mine"
    )


@pytest.mark.parametrize(
    "pattern", ["cam-*/engine.plan", "cam-*/verdict.json", "*.json", "*.timing"]
)
def test_no_file_of_a_user_is_replaced(gpu: machine.Machine, folder: Path, pattern: str) -> None:
    build_engines(folder)
    (path,) = (folder / "engines").glob(pattern)
    shutil.rmtree(path.parent) if path.name == "engine.plan" else path.unlink()
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"in the way and was not written by this package"):
        # What was measured is only written after a build
        build_engines(folder, {"most_side": 512} if path.suffix == ".timing" else {})
    assert path.read_text() == "mine"


def test_a_link_leads_nowhere(gpu: machine.Machine, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "engines").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="engines is a link, expected a folder of the bundle"):
        build_engines(folder)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_embedded_bundle_is_not_written() -> None:
    with pytest.raises(BundleError, match="the embedded bundle is a part of this package: copy"):
        build_engines("demo")


def test_wrong_settings(gpu: machine.Machine, folder: Path) -> None:
    with pytest.raises(SettingsError, match="most_prompts is 0, expected a whole number from 1"):
        build_engines(folder, {"most_prompts": 0})
    with pytest.raises(SettingsError, match="the bundle have fp16, tf32, fp32: export"):
        build_engines(folder, {"precision": "bf16"})
    with pytest.raises(ImageError, match="none"):
        build_engines(folder, images=["none.png"])
    assert not (folder / "engines" / "lock").stat().st_size


KINDS = {
    "bundle": Kind(("text",)),
    "settings": Kind(("none", "empty dict"), (SamrefineError,)),
    "images": Kind(("empty list", "texts", "ragged", "nones")),
    "progress": Kind(("none", "function")),
}


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(name, value) for name, kind in KINDS.items() for _, value in wrong_values(kind)],
    ids=lambda value: value if isinstance(value, str) and value in KINDS else "",
)
def test_wrong_arguments(folder: Path, parameter: str, value: Any) -> None:
    """Before anything is asked of the machine."""
    with pytest.raises(SamrefineError) as caught:
        build_engines(**{"bundle": folder, parameter: value})
    assert_says_what_is_expected(caught.value, parameter)


def test_no_gpu(gpu: machine.Machine, folder: Path) -> None:
    gpu.set("devices", 0)
    with pytest.raises(BackendUnavailableError, match="finds no NVIDIA GPU"):
        build_engines(folder)
    assert not (folder / "engines").exists()


def test_machines_are_described() -> None:
    found = Machine("10.3.0.26", "Or\nin", "8.7")
    assert str(found) == "TensorRT 10.3.0.26 on Or\\nin (SM 8.7)"
    assert EngineStore(Path("none")).is_empty


# The command


def test_the_command(gpu: machine.Machine, folder: Path) -> None:
    result = run("build", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("encoder           fp16  rms 0, mean_iou 1,")
    assert len(result.stdout.splitlines()) == 4
    assert run("build", folder, "-q").output == ""


def test_the_command_says_what_failed(gpu: machine.Machine, folder: Path) -> None:
    gpu.behaviour.parser_errors = {"cam.onnx": ["no importer"]}
    result = run("build", folder, "--json")
    assert result.exit_code == 1
    engines = json.loads(result.stdout)["engines"]
    assert [each["is_passed"] for each in engines] == [True, True, True, False, False]
    line = run("build", folder).stdout.splitlines()[-1]
    assert line.startswith("cam               fp32  not used: TensorRT 10.3.0.26 rejects cam.onnx")


def test_errors_of_the_command_are_one_line(gpu: machine.Machine, folder: Path) -> None:
    gpu.set("devices", 0)
    assert failed(run("build", folder), 2) == "CUDA finds no NVIDIA GPU"
    assert "--most-prompts" in run("build", folder, "--most-prompts", "0").stderr
