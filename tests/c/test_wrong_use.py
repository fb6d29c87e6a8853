"""Wrong use of the C library: a code and one line of text, never a crash, a leak or a race."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.c.programs import CHECK, LIBRARY, compiled, require, said, started

GOOD = {"size": 0, "provider": "cpu", "threads": 1, "argmax": -1, "point": 0.5}


def opening(check: Path, path: Path, **changes: object) -> str:
    (line,) = said(check, "open", path, *{**GOOD, **changes}.values())
    return line.removeprefix("open: ")


def test_right_options(check: Path, graphs: Path) -> None:
    for changes in ({}, {"threads": 0}, {"argmax": 1}, {"point": 1}, {"size": -4}):
        assert opening(check, graphs / "refine.onnx", **changes) == "0 "


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 8}, "1 options.struct_size is 96, expected 84 to 88: set it to"),
        ({"size": -8}, "1 options.struct_size is 80, expected 84 to 88: set it to"),
        ({"provider": "CPU"}, '1 options.provider is "CPU", expected cpu, cuda or tensorrt'),
        ({"provider": ""}, '1 options.provider is "", expected cpu, cuda or tensorrt'),
        ({"threads": -1}, "1 options have threads -1, device 0 and argmax -1, expected none"),
        ({"argmax": 2}, "1 options have threads 1, device 0 and argmax 2, expected none"),
        ({"point": 1.5}, "1 options.points[1] is 1.5, expected 0 to 1"),
        ({"point": "nan"}, "1 options.points[1] is nan, expected 0 to 1"),
    ],
)
def test_wrong_options(check: Path, graphs: Path, changes: dict[str, object], said: str) -> None:
    assert opening(check, graphs / "refine.onnx", **changes).startswith(said)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_providers_that_are_not_there(check: Path, graphs: Path, provider: str) -> None:
    import onnxruntime

    if any(provider in name.lower() for name in onnxruntime.get_available_providers()):
        pytest.skip(f"this onnxruntime has {provider}")
    line = opening(check, graphs / "refine.onnx", provider=provider)
    assert line.startswith("3 ONNX Runtime cannot use ")


def other_graph(path: Path, outputs: tuple[str, ...], has_classes: bool = False) -> None:
    """Write a graph with the input and the outputs of one of ours, which computes nothing."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["h", "w", 3])
    made = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in outputs]
    nodes = [helper.make_node("Identity", ["image"], [name]) for name in outputs]
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], made), opset_imports=opsets, ir_version=10
    )
    if has_classes:
        helper.set_model_props(model, {"classes": "cat\ndog"})
    onnx.save(model, path)


LABEL = (
    "label",
    "pseudo_label",
    "probabilities",
    "boxes",
    "scores",
    "stability_scores",
    "taken_by",
)


def test_wrong_graphs(check: Path, graphs: Path, tmp_path: Path, small_image: Path) -> None:
    whole = (graphs / "refine.onnx").read_bytes()
    files = {"cut.onnx": whole[:4000], "empty.onnx": b"", "noise.onnx": os.urandom(3000)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert opening(check, tmp_path / name).startswith(f"2 {tmp_path / name}: ")
    assert opening(check, tmp_path / "none.onnx").endswith(": No such file or directory")
    assert opening(check, tmp_path / "none") == opening(check, tmp_path).replace(
        str(tmp_path), str(tmp_path / "none")
    )
    assert opening(check, tmp_path).startswith(f"2 {tmp_path} has none of label.onnx, everything")
    # A graph of another kind, alone and in the place of ours
    other_graph(tmp_path / "other.onnx", ("label",))
    assert opening(check, tmp_path / "other.onnx").endswith(
        "is not what `samrefine export label|everything|refine` writes"
    )
    shutil.copy(graphs / "refine.onnx", tmp_path / "label.onnx")
    assert opening(check, tmp_path).endswith("is not what `samrefine export label` writes")
    # Ours in name alone
    other_graph(tmp_path / "label.onnx", LABEL)
    assert opening(check, tmp_path).endswith("label.onnx has no metadata named classes")
    other_graph(tmp_path / "label.onnx", LABEL, has_classes=True)
    assert opening(check, tmp_path) == "0 "
    found = started(check, "label", tmp_path, small_image, 0, tmp_path / "out")
    assert found.stderr == "2 label has element type 2 and 3 dimensions, expected 2 and 2\n"
    # One that is not opened
    found = started(check, "label", graphs / "refine.onnx", small_image, 0, tmp_path / "out")
    assert found.stderr == "2 the model was opened without label.onnx\n"


SAID = """\
no path: 1 path and model must not be NULL
no model: 1 path and model must not be NULL
no image: 1 image must not be NULL
label: 1 image must not be NULL
masks: 1 image must not be NULL
refine: 1 pseudo_label must not be NULL
label: 1 image is 0 wide and 4 high, expected at least 1 x 1
masks: 1 image is 0 wide and 4 high, expected at least 1 x 1
refine: 1 pseudo_label is 0 wide and 4 high, expected at least 1 x 1
label: 1 image is 4 wide and -1 high, expected at least 1 x 1
masks: 1 image is 4 wide and -1 high, expected at least 1 x 1
refine: 1 pseudo_label is 4 wide and -1 high, expected at least 1 x 1
label: 1 image has a stride of 3 bytes, expected at least 12, or 0
masks: 1 image has a stride of 3 bytes, expected at least 12, or 0
refine: 1 pseudo_label has a stride of 3 bytes, expected at least 4, or 0
label: 1 image has a stride of 18446744073709551615 bytes, expected at least 12, or 0
masks: 1 image has a stride of 18446744073709551615 bytes, expected at least 12, or 0
refine: 1 pseudo_label has a stride of 18446744073709551615 bytes, expected at least 4, or 0
label: 1 image is larger than memory
masks: 1 image is larger than memory
refine: 5 there is too little memory
closed: 1 model and result must not be NULL
no result: 1 model and result must not be NULL
classes: 1 class_count is 1, expected 8, or 0 with image_labels NULL
uncounted: 1 class_count is 0, expected 8, or 0 with image_labels NULL
no masks: 1 mask_count is 2 and masks is NULL
many masks: 1 mask_count is 18446744073709551615 and masks is given
"""


def test_wrong_calls(check: Path, graphs: Path) -> None:
    assert said(check, "calls", graphs) == SAID.splitlines()


def test_too_little_memory(check: Path, graphs: Path) -> None:
    (line,) = said(check, "starve", graphs / "label.onnx")
    assert line.startswith("label: 5 label.onnx: ")


SANITIZERS = {
    "address,undefined": {"ASAN_OPTIONS": "allocator_may_return_null=1"},
    # ONNX Runtime's library is not built for it: what it does between its own locks is not seen
    "thread": {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1 allocator_may_return_null=1"},
}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers(
    root: Path, graphs: Path, small_image: Path, tmp_path: Path, compiler: str, sanitizer: str
) -> None:
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    check = compiled(root, CHECK, tmp_path / "check", *flags, compiler=compiler)
    environment = SANITIZERS[sanitizer]
    assert said(check, "calls", graphs, **environment) == SAID.splitlines()
    said(check, "threads", graphs / "label.onnx", small_image, **environment)
    said(check, "memory", graphs / "refine.onnx", small_image, 3, **environment)
    out = tmp_path / "out"
    said(check, "masks", graphs / "everything.onnx", small_image, 3, out, **environment)
    assert opening(check, graphs / "label.onnx").startswith("0 ")


def test_valgrind(check: Path, graphs: Path, small_image: Path) -> None:
    """No error, and nothing lost but what ONNX Runtime still holds when the program ends."""
    valgrind = [require("valgrind"), "--leak-check=full", "--error-exitcode=9"]
    valgrind += ["--errors-for-leak-kinds=definite,possible"]
    valgrind += [f"--suppressions={Path(__file__).with_name('onnxruntime.supp')}"]
    said(*valgrind, check, "memory", graphs / "refine.onnx", small_image, 0)


def test_fuzzing(root: Path, graphs: Path, tmp_path: Path) -> None:
    """A few seconds of what fuzz.c says how to run for longer."""
    source = Path(__file__).with_name("fuzz.c")
    flags = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    fuzz = compiled(root, [*LIBRARY, source], tmp_path / "fuzz", *flags, compiler="clang")
    for name in ("label.onnx", "refine.onnx"):
        shutil.copy(graphs / name, tmp_path)
    environment = {"GRAPHS": str(tmp_path), "ASAN_OPTIONS": "allocator_may_return_null=1"}
    arguments = ("-max_total_time=8", "-len_control=0", "-rss_limit_mb=4000")
    finished = started(fuzz, *arguments, f"-artifact_prefix={tmp_path}/", **environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
