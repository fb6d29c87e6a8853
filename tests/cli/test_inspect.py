"""`samrefine inspect`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from samrefine_rt import __version__
from tests.command import failed, run


def test_what_a_bundle_holds(lively_bundle: Path) -> None:
    result = run("inspect", lively_bundle)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "lively (fp32), format 2"
    for name in ("encoder", "decoder", "everything_tokens", "everything_finish", "cam"):
        assert f"{name}: {name}.onnx" in lines
    assert "in image float32 (1, 3, 256, 256)" in lines
    assert "in point_coords float32 (prompts, points, 2)" in lines
    assert "classes: red, green, blue" in lines
    assert "points_per_side: 4" in lines
    files = [path for path in lively_bundle.iterdir() if path.name != "manifest.json"]
    assert lines[-1].startswith(f"{len(files)} files, ")
    assert lines[-1].endswith("every sha256 matches the manifest")


def test_which_engines_take_each_graph(tmp_path: Path, lively_bundle: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(lively_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["graphs"]["encoder"]["engines"]["tensorrt-10.3"] = ["operator Foo", "opset 22"]
    del manifest["graphs"]["cam"]["engines"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    sections = run("inspect", bundle).stdout.split("\n\n")
    encoder, decoder, *_, cam = (s.splitlines() for s in sections if ".onnx" in s)
    assert encoder[-2] == "  for onnxruntime, openvino, tensorrt-11"
    assert encoder[-1] == "  not for tensorrt-10.3: operator Foo; opset 22"
    assert decoder[-1] == "  for onnxruntime, openvino, tensorrt-10.3, tensorrt-11"
    assert cam[-1].split()[0] == "out"


def test_random_weights_are_warned_of(lively_bundle: Path) -> None:
    result = run("inspect", lively_bundle)
    assert "holds random weights (seed 0); its output means nothing" in result.stderr
    assert "random_weights: 0" in result.stdout


def test_json_is_the_manifest(lively_bundle: Path) -> None:
    result = run("inspect", "--bundle", lively_bundle, "--json")
    printed = json.loads(result.stdout)
    assert printed.pop("written_by") == f"samrefine {__version__}"
    assert printed == json.loads((lively_bundle / "manifest.json").read_text())


def test_changed_file(tmp_path: Path, lively_bundle: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(lively_bundle, bundle)
    (bundle / "cam.onnx").write_bytes(b"")
    assert "graph 'cam': " in failed(run("inspect", bundle), 2)


def test_no_bundle(tmp_path: Path) -> None:
    assert "does not exist or is not a folder" in failed(run("inspect", tmp_path / "none"), 2)
    assert "it has no manifest.json" in failed(run("inspect", tmp_path), 2)
    assert "which bundle?" in failed(run("inspect"), 2)
