"""`samrefine pull`, and checkpoints that are given by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.command import failed, run
from tests.weights_server import Published, serving

pytest.importorskip("urllib3", reason="urllib3 is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and the registry of the server."""
    monkeypatch.setenv("SAMREFINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMREFINE_REGISTRY", str(tmp_path / "mine.json"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SAMREFINE_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "weights"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    with serving(Published(np.random.default_rng(0).bytes(300_000))) as found:
        register(tmp_path, found)
        yield found


def register(tmp_path: Path, published: Published, **known: object) -> None:
    """Enter what the server has as `mine`, with its sha256 unless something else is known."""
    entry = {"url": published.url, **(known or {"sha256": published.sha256})}
    (tmp_path / "mine.json").write_text(json.dumps({"weights": {"mine": entry}}))


def test_files_are_printed(cache: Path, published: Published) -> None:
    path = cache / "mine" / "model.pth"
    for _ in range(2):
        result = run("pull", "mine", "mine")
        assert result.exit_code == 0 and result.stdout.splitlines()[-1] == str(path)
    assert path.read_bytes() == published.content and len(published.requests) == 1
    assert run("pull", "mine", "-q").output == ""
    printed = json.loads(run("pull", "mine", "--json").stdout)
    assert printed["files"] == {"mine": str(path)} and printed["failed"] == {}


def test_weights_of_which_little_is_known(tmp_path: Path, published: Published) -> None:
    register(tmp_path, published, size=len(published.content))
    expected = "Warning: mine: no sha256 is known for certain; it was "
    assert f"{expected}compared with size\n" in run("pull", "mine", "-q").stderr
    register(tmp_path, published, about="whatever")
    assert f"{expected}not compared with anything\n" in run("pull", "mine", "-q").stderr


def test_the_list(cache: Path, published: Published) -> None:
    lines = run("pull").stdout.splitlines()
    assert lines == run("pull", "mine", "--list").stdout.splitlines()
    assert lines[0].split() == ["name", "size", "here", "compared", "with", "licence"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["vit_b"] == ["375.0", "MB", "no", "sha256", "Apache-2.0"]
    assert rows["mine"] == ["-", "no", "sha256", "unknown"]
    run("pull", "mine")
    assert {line.split()[0]: line.split()[1:] for line in run("pull").stdout.splitlines()}[
        "mine"
    ] == ["-", "yes", "sha256", "unknown"]
    listed = json.loads(run("pull", "--json").stdout)["weights"]
    assert listed["mine"]["is_here"] and listed["mine"]["file"] == str(cache / "mine" / "model.pth")
    assert listed["vit_b"]["size"] == 375_042_383 and not listed["vit_b"]["is_here"]


def test_the_rest_is_done(tmp_path: Path, published: Published) -> None:
    """Unknown names are wrong use; weights that cannot be had are not."""
    other = {"url": "http://127.0.0.1:1/other.pth"}
    (tmp_path / "other.json").write_text(json.dumps({"weights": {"other": other}}))
    arguments = ("pull", "--registry", tmp_path / "other.json", "other", "mine")
    message = failed(run(*arguments, "vitb"), 2)
    assert message.startswith("there are no weights 'vitb', ") and "mean vit_b?" in message
    assert not published.requests
    result = run(*arguments, "--json", tmp_path / "results.json")
    message = failed(result, 1)
    assert message.startswith("other: no answer from http://127.0.0.1:1/other.pth ")
    assert str(tmp_path / "cache" / "weights" / "other" / "other.pth") in message
    assert result.stdout.endswith("model.pth\n")
    results = json.loads((tmp_path / "results.json").read_text())
    assert [*results["files"]] == ["mine"] and [*results["failed"]] == ["other"]


def test_wrong_use(tmp_path: Path, published: Published) -> None:
    assert "does not exist" in failed(run("pull", "--registry", tmp_path / "none.json"), 2)
    assert "expected an http" in failed(run("pull", "mine", "--mirror", "ftp://a"), 2)
    (tmp_path / "mine.json").write_text("{")
    assert "mine.json: not JSON" in failed(run("pull", "mine"), 2)


def test_killed_transfers_go_on(cache: Path, published: Published) -> None:
    published.seconds = 0.02
    part = cache / "mine" / "model.pth.part"
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-m", "samrefine_rt", "pull", "mine", "-q"],
        env={**os.environ, "PYTHONPATH": paths},
    )
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait(60) == -9
    kept = part.stat().st_size
    assert 0 < kept < len(published.content) and not part.with_name("model.pth").exists()
    assert run("pull", "mine").exit_code == 0
    assert (cache / "mine" / "model.pth").read_bytes() == published.content
    assert published.ranges == [None, f"bytes={kept}-"]


CHECKPOINTS = {
    "export sam": ("export", "sam", "--model", "vit_b", "--checkpoint"),
    "export cam": ("export", "cam", "--arch", "resnet18", "--classes", "a,b", "--checkpoint"),
    "recam": (
        *("export", "cam", "--arch", "irn_resnet50", "--classes", "a,b"),
        *("--random-weights", "0", "--recam-predictor"),
    ),
}


@pytest.mark.parametrize("command", CHECKPOINTS)
def test_checkpoints_by_name(command: str, tmp_path: Path, cache: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pth")
    content = (tmp_path / "model.pth").read_bytes()
    arguments = (*CHECKPOINTS[command], "mine", "--out", tmp_path / "bundle")
    with serving(Published(content)) as published:
        register(tmp_path, published)
        message = failed(run(*arguments), 2)
        assert message == "the weights mine are not on this machine yet: samrefine pull mine"
        assert not published.requests
        assert run("pull", "mine", "-q").exit_code == 0
    # It is found, read, and found to be of another network
    assert "missing" in failed(run(*arguments), 2)
    assert not (tmp_path / "bundle").exists()


def test_completion_of_names(published: Published) -> None:
    from samrefine_rt.cli.export_command import sam
    from samrefine_rt.cli.pull_command import pull

    for command in (pull, sam):
        context = command.make_context(command.name, [], resilient_parsing=True)
        parameter = {each.name: each for each in command.params}
        chosen = parameter.get("names") or parameter["checkpoint"]
        found = [each.value for each in chosen.shell_complete(context, "vit_")]
        assert found[:3] == ["vit_b", "vit_l", "vit_h"]
