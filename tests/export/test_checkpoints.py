"""Reading checkpoints: wrappers taken off, damage and foreign weights named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samrefine_export.checkpoints import load_strict, read_checkpoint
from samrefine_export.errors import CheckpointError

WEIGHT = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "content",
    [
        {"fc.weight": WEIGHT},
        {"module.fc.weight": WEIGHT},
        {"state_dict": {"module.fc.weight": WEIGHT}, "epoch": 5},
        {"model": {"fc.weight": WEIGHT}, "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": {"fc.weight": WEIGHT}}},
        {"fc.weight": WEIGHT, "epoch": 3, "arch": "a"},
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "a.pth")
    state = read_checkpoint(tmp_path / "a.pth")
    assert list(state) == ["fc.weight"]
    assert torch.equal(state["fc.weight"], WEIGHT)


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"fc.weight": WEIGHT}, tmp_path / "a.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["fc.weight"], WEIGHT)
    (tmp_path / "b.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "b.safetensors")


class Trap:
    """Would run code if unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trap"),)


def test_pickled_code_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": WEIGHT, "trap": Trap()}, "a.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint("a.pth")
    assert not Path("trap").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated(tmp_path: Path, kept: float) -> None:
    torch.save({"fc.weight": torch.zeros(100, 100)}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(tmp_path / "a.pth")


def test_missing_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(CheckpointError, match="does not exist"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "found"), [({"epoch": 5}, "epoch"), ([WEIGHT], "list"), (WEIGHT, "Tensor")]
)
def test_no_state_dict(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"no state dict.*{found}"):
        read_checkpoint(tmp_path / "a.pth")


def test_strict_loading_names_what_differs() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 9))
    state = dict(module.state_dict()) | {f"extra{i}": WEIGHT for i in range(5)}
    state["1.weight"] = torch.zeros(4, 2)
    del state["0.bias"]
    with pytest.raises(CheckpointError) as caught:
        load_strict(module, state, "a.pth as net")
    message = str(caught.value)
    assert message.startswith("a.pth as net: ")
    assert "1 missing (0.bias)" in message
    assert "5 unexpected (extra0, extra1, extra2, …)" in message
    assert "1.weight is (4, 2), expected (9, 2)" in message


def test_strict_loading_needs_no_batch_counts() -> None:
    source, target = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    source.running_mean = torch.randn(4)
    state = source.state_dict()
    del state["num_batches_tracked"]
    load_strict(target, state, "old")
    assert torch.equal(target.running_mean, source.running_mean)
