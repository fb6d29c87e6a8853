"""`samrefine bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import failed, run, write_image

QUICK = ("--threads", 1, "--repeats", 1, "--points-per-side", 2)


def test_a_table_and_one_line_to_paste(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    result = run("bench", image, "--bundle", lively_bundle, *QUICK)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stage", "runs", "p50", "ms", "p90", "ms"]
    assert {"cam", "encoder", "image"} <= {line.split()[0] for line in lines[1:]}
    assert "backend cpu" in lines
    assert lines[-1].startswith("lively, label, 4 prompts, cpu; ") and "images/s" in lines[-1]


def test_json(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    result = run("bench", image, "--bundle", lively_bundle, *QUICK, "--json")
    printed = json.loads(result.stdout)
    assert printed["what"] == "label" and printed["gflops"] is None
    assert printed["stages"][-1]["name"] == "image" and printed["backends"]["encoder"] == "cpu"


def test_embedded_images_where_none_is_given() -> None:
    result = run("bench", "--bundle", "demo", *QUICK, "-q")
    assert result.exit_code == 0 and result.output == ""


def test_torch_is_asked_before_anything_is_measured(lively_bundle: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    message = failed(run("bench", "--bundle", lively_bundle, *QUICK, "--against", "torch"), 2)
    assert message.startswith("the bundle's SAM is 'small', expected one of vit_b")


def test_wrong_use(lively_bundle: Path) -> None:
    failed(run("bench"), 2)
    failed(run("bench", "--bundle", lively_bundle, "--repeats", 0), 2)
    failed(run("bench", "--bundle", lively_bundle, "--against", "jax"), 2)
