"""`samrefine verify`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from samrefine_runtime.bundle import Bundle
from tests.command import failed, run, write_image


def test_a_table_and_what_ran(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    result = run("verify", lively_bundle, image, "--backend", "cpu", "--threads", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    titles = "graph, fed by, rms, largest, mean iou, least iou, score shift, label agreement"
    assert lines[0].split() == titles.replace(",", "").split()
    names = {line.split()[0].rstrip(",") for line in lines[1:-2]}
    assert names == {*Bundle.load(lively_bundle).graphs, "labels"}
    assert lines[-2:] == ["backend cpu", "within the tolerances of fp32, 2 images"]


def test_outside_of_the_tolerances(tmp_path: Path, lively_bundle: Path) -> None:
    """No other engine rounds in the same way; the table comes all the same."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    image = write_image(tmp_path / "a.png")
    arguments = ["verify", lively_bundle, image, "--backend", "openvino", "--threads", 1]
    result = run(*arguments, "--rms", 0)
    assert result.exit_code == 1
    assert re.search(r"^encoder +reference .* outside$", result.stdout, re.MULTILINE)
    fault = r"^Error: encoder, fed by reference: rms is \S+, expected at most 0$"
    assert re.search(fault, result.stderr, re.MULTILINE)
    assert "within the tolerances" not in result.output
    assert run(*arguments, "-q").stdout == ""


def test_json(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    result = run("verify", lively_bundle, image, "--threads", 1, "--json", "--least-iou", 0.5)
    printed = json.loads(result.stdout)
    assert result.exit_code == 0 and printed["is_within"] is True
    assert printed["tolerances"]["least_iou"] == 0.5
    assert {row["what"] for row in printed["comparisons"]} >= {"encoder", "cam"}


def test_embedded_images_where_none_is_given(lively_bundle: Path) -> None:
    result = run("verify", lively_bundle, "--threads", 1, "--json")
    assert json.loads(result.stdout)["images"] == 2


def test_torch_needs_the_bundles_own_checkpoint(tmp_path: Path, lively_bundle: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    checkpoint = tmp_path / "sam.pth"
    checkpoint.write_bytes(b"")
    message = failed(run("verify", lively_bundle, "--checkpoint", checkpoint), 2)
    assert message.startswith("the bundle's SAM is 'small', expected one of vit_b")


def test_wrong_use(tmp_path: Path, lively_bundle: Path) -> None:
    failed(run("verify"), 2)
    failed(run("verify", lively_bundle, "--rms", -1), 2)
    failed(run("verify", lively_bundle, tmp_path), 2)
    assert "does not exist" in failed(run("verify", tmp_path / "none"), 2)
    message = failed(run("verify", lively_bundle, "--backend", "cpu", "--precision", "bf16"), 2)
    assert "ONNX Runtime has no bf16 on CPUs" in message
