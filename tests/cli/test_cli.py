"""What all commands share: help, exit codes, one line an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import samrefine_rt
from tests.command import failed, files_in, run, write_image

COMMANDS = [
    "",
    "demo",
    "export",
    "export sam",
    "export cam",
    "build",
    "inspect",
    "masks",
    "refine",
    "label",
    "segment",
    "evaluate",
    "verify",
    "bench",
    "doctor",
]
PATHS = [str(Path(samrefine_rt.__file__).parents[1] / part) for part in ("", "runtime", "export")]


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = {PATHS!r}; from samrefine_rt.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(command: str, flag: str) -> None:
    result = run(*command.split(), flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == ""


def test_help_lists_every_command() -> None:
    text = run("--help").stdout
    for command in COMMANDS[1:]:
        if " " not in command:
            assert f"\n  {command} " in text
    assert "Exit codes: 0 all done, 1 some inputs failed" in text


def test_version() -> None:
    assert run("--version").stdout == f"samrefine, version {samrefine_rt.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["masks"],
        ["masks", "nowhere.jpg", "--bundle", "b", "--out", "o"],
        ["masks", ".", "--out", "o"],
        ["masks", ".", "--bundle", "b"],
        ["masks", ".", "--bundle", "b", "--out", "o", "--format", "gif"],
        ["masks", ".", "--bundle", "b", "--out", "o", "--points-per-side", "0"],
        ["masks", ".", "--bundle", "b", "--out", "o", "--threads", "0"],
        ["masks", ".", "--bundle", "b", "--out", "o", "--backend", "tpu"],
        ["label", ".", "--bundle", "b", "--out", "o", "--method", "best"],
        ["refine", "--out", "o"],
        ["evaluate", "nowhere", "."],
        ["inspect"],
        ["export", "sam", "--out", "o"],
        ["export", "cam", "--arch", "resnet50", "--out", "o"],
    ],
    ids=" ".join,
)
def test_wrong_use(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed(run(*arguments), 2)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("command", ["masks", "label"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "does not exist or is not a folder"),
        ("hash", "the file is damaged or was changed"),
        ("version", "has format version 7, this release reads 2"),
    ],
)
def test_bundle_that_is_not_sound(
    command: str, damage: str, message: str, tmp_path: Path, small_bundle: Path
) -> None:
    import shutil

    bundle, out = tmp_path / "bundle", tmp_path / "out"
    image = write_image(tmp_path / "a.png")
    if damage != "missing":
        shutil.copytree(small_bundle, bundle)
    if damage == "hash":
        with (bundle / "encoder.onnx").open("ab") as file:
            file.write(b"x")
    if damage == "version":
        manifest = bundle / "manifest.json"
        text = manifest.read_text().replace('"format_version": 2', '"format_version": 7')
        manifest.write_text(text)
    assert message in failed(run(command, image, "--bundle", bundle, "--out", out), 2)
    assert not out.exists()


def test_in_a_process_of_its_own(tmp_path: Path, lively_bundle: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    arguments = ["masks", tmp_path / "images", "--bundle", lively_bundle, "--threads", 1]
    done = python(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "1 done" in done.stderr
    assert files_in(tmp_path / "out") == ["a.json"]
    assert python("masks", tmp_path, "--bundle", lively_bundle, "--out", tmp_path).returncode == 2


def test_a_failed_input_is_exit_code_1_in_a_process(tmp_path: Path, lively_bundle: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    done = python("masks", tmp_path / "a.png", "--bundle", lively_bundle, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "a.png: not a readable image" in done.stderr
    assert "Traceback" not in done.stderr
