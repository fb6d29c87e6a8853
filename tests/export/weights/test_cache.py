"""Where pulled weights lie, and checkpoints that are given by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samrefine_export.errors import CheckpointError
from samrefine_export.weights import checkpoint_path, known_weights, weights_path


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = known_weights()["vit_b"]
    tail = Path("weights", "vit_b", "sam_vit_b_01ec64.pth")
    assert weights_path(weights) == tmp_path / "cache" / tail
    monkeypatch.delenv("SAMREFINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights_path(weights) == tmp_path / "xdg" / "samrefine" / tail
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_path(weights) == tmp_path / ".cache" / "samrefine" / tail


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the weights `mine` of 3 bytes lie once they are pulled."""
    entry = {"url": "https://example.org/mine.pth", "size": 3}
    (tmp_path / "mine.json").write_text(json.dumps({"weights": {"mine": entry}}))
    monkeypatch.setenv("SAMREFINE_REGISTRY", str(tmp_path / "mine.json"))
    return weights_path(known_weights()["mine"])


def test_a_name_stands_for_pulled_weights(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"not on this machine yet: samrefine pull mine$"):
        checkpoint_path("mine")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"abc")
    assert checkpoint_path("mine") == mine
    # A folder of that name, such as a bundle, is no checkpoint; a file comes first
    Path("mine").mkdir()
    assert checkpoint_path(Path("mine")) == mine
    Path("mine").rmdir()
    Path("mine").write_bytes(b"")
    assert checkpoint_path("mine") == Path("mine")


def test_weights_of_another_size_are_not_taken(mine: Path) -> None:
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"ab")
    with pytest.raises(CheckpointError, match=r"has 2 bytes, expected 3: samrefine pull mine"):
        checkpoint_path("mine")


def test_neither_a_file_nor_a_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint vit-b does not exist.*mean vit_b?"):
        checkpoint_path("vit-b")
    with pytest.raises(CheckpointError, match=r"recam_predictor .*none.pth does not exist or is"):
        checkpoint_path(tmp_path / "none.pth", "recam_predictor")
    with pytest.raises(CheckpointError, match="checkpoint is 3, expected a path"):
        checkpoint_path(3)
