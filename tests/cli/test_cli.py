"""What all commands share: help, exit codes, one line an error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import samrefine_rt
from samrefine_runtime.labels import write_label
from tests.command import failed, files_in, run, write_image

COMMANDS = [
    "",
    "demo",
    "pull",
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
    "serve",
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


RUN = "import sys; sys.argv[0] = 'samrefine'; from samrefine_rt.__main__ import run; run()"
"""`samrefine` as its entry point calls it."""


def completed(**environment: str) -> str:
    """What `samrefine` prints to a shell that completes its command line."""
    paths = ":".join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_the_shells_completion(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    script = completed(_SAMREFINE_COMPLETE=f"{shell}_source")
    assert f"_SAMREFINE_COMPLETE={shell}_complete" in script and "samrefine" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("samrefine ", {"demo", "label", "refine", "segment", "evaluate"}),
        ("samrefine la", {"label"}),
        ("samrefine export ", {"sam", "cam", "label", "everything", "refine"}),
        ("samrefine label --over", {"--overlay", "--overwrite"}),
        ("samrefine label --method arg", {"argmax"}),
        ("samrefine label --format voc,labelm", {"voc,labelme"}),
    ],
)
def test_what_the_shell_completes(words: str, expected: set[str]) -> None:
    count = str(len(words.split(" ")) - 1)
    text = completed(_SAMREFINE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count)
    found = {line.partition(",")[2] for line in text.splitlines()}
    assert expected <= found
    assert len(found) == len(expected) or words == "samrefine "


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["labl"], "No such command 'labl', did you mean label?"),
        (["export", "samm"], "No such command 'samm', did you mean sam?"),
        (["zzz"], "No such command 'zzz'"),
        (["label", ".", "--ovrlay"], "--overlay"),
        (["label", ".", "--method", "argmx"], "'argmax', did you mean argmax?"),
        (["label", ".", "--backend", "gpu"], "'openvino'."),
        (["label", ".", "--format", "voc,lableme"], "yolo, did you mean labelme?"),
    ],
    ids=" ".join,
)
def test_what_may_have_been_meant(
    arguments: list[str], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = failed(run(*arguments), 2)
    assert hint in message
    assert ("did you mean" in message) == ("did you mean" in hint)


def test_json_is_an_option_of_every_command() -> None:
    for command in COMMANDS:
        # A server has no results of its own
        if command not in ("", "export", "serve"):
            assert "--json [FILE]" in run(*command.split(), "--help").stdout, command


@pytest.mark.parametrize("command", ["demo", "inspect", "masks", "label", "evaluate", "doctor"])
def test_json_on_stdout_stands_alone(command: str, tmp_path: Path, lively_bundle: Path) -> None:
    """And a file leaves the text where it is."""
    image, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    few = ["--bundle", lively_bundle, "--threads", 1, "--points-per-side", 2, "--out", out]
    given: dict[str, list[object]] = {
        "demo": ["--out", out, "--threads", 1],
        "inspect": [lively_bundle],
        "doctor": [],
        "evaluate": [tmp_path / "labels", tmp_path / "labels"],
    }
    arguments = given.get(command, [image, *few])
    write_label(tmp_path / "labels" / "x.png", np.array([[0, 1]], np.uint8))
    printed = run(command, *arguments, "--json")
    content = json.loads(printed.stdout)
    assert next(iter(content)) == "written_by"
    noise = [line for line in printed.stderr.splitlines() if not line.startswith("Warning: ")]
    assert [line for line in noise if line] == []
    written = run(command, *arguments, "--json", tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()).keys() == content.keys()
    assert len(written.stdout + written.stderr) > 20


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
