"""Options that commands share: where they come from, what they show, what they refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from samrefine_rt.cli.grouped import CAM, GENERAL, INPUT, MASKS, REFINEMENT, RUNNING
from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.formats import LABEL_FORMATS, MASK_FORMATS, LabelFormat
from samrefine_runtime.formats.settings import FormatSettings
from samrefine_runtime.labels import LabelMap, read_label, write_label
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Settings, domains
from tests.command import failed, files_in, run, write_image


def help_of(command: str) -> dict[str, str]:
    """Text of each group of options by its heading, white space joined."""
    text = run(command, "--help").stdout
    headings = [INPUT, REFINEMENT, CAM, MASKS, RUNNING, GENERAL]
    parts = re.split("|".join(f"\n({re.escape(heading)}):\n" for heading in headings), text)
    kept = [part for part in parts[1:] if part is not None]
    return {kept[i]: " ".join(kept[i + 1].split()) for i in range(0, len(kept), 2)}


def flags(kind: type[Settings]) -> set[str]:
    found = domains(kind).items()
    return {d.flag or f"--{name.replace('_', '-')}" for name, d in found if d.help}


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--[a-z-]+", text))


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("label", [INPUT, REFINEMENT, CAM, MASKS, RUNNING, GENERAL]),
        ("refine", [INPUT, REFINEMENT, MASKS, RUNNING, GENERAL]),
        ("masks", [INPUT, MASKS, RUNNING, GENERAL]),
        ("evaluate", [INPUT, GENERAL]),
        ("inspect", [INPUT, GENERAL]),
    ],
)
def test_help_lists_options_in_groups(command: str, groups: list[str]) -> None:
    assert list(help_of(command)) == groups


def test_every_setting_with_help_is_an_option() -> None:
    label, refine, masks = (help_of(command) for command in ("label", "refine", "masks"))
    assert flags(RefineSettings) <= options_in(refine[REFINEMENT])
    assert flags(RefineSettings) - {"--num-classes"} <= options_in(label[REFINEMENT])
    assert "--num-classes" not in label[REFINEMENT]
    assert flags(CamSettings) == options_in(label[CAM]) == {
        "--background-score", "--presence-threshold", "--allow-empty"
    }  # fmt: skip
    for command in (label, refine, masks):
        assert flags(GeneratorSettings) <= options_in(command[MASKS])


SHARED = {
    "--bundle", "--out", "--backend", "--threads", "--overwrite", "--retry-failed", "--only",
    "--json", "--quiet", "--verbose", "--help",
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "kinds", "own"),
    [
        (
            "label",
            [RefineSettings, CamSettings, GeneratorSettings, FormatSettings],
            {"--image-labels", "--format", "--overlay", "--report", "--ground-truth"},
        ),
        (
            "refine",
            [RefineSettings, GeneratorSettings, FormatSettings],
            {"--pseudo-labels", "--images", "--masks", "--classes"}
            | {"--format", "--overlay", "--report", "--ground-truth"},
        ),
        ("masks", [GeneratorSettings], {"--format", "--overlay"}),
    ],
)
def test_a_command_has_the_options_of_its_settings_and_its_own(
    command: str, kinds: list[type[Settings]], own: set[str]
) -> None:
    # Options start a line of the help; those that a text mentions do not
    text = run(command, "--help").stdout
    found = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    expected = SHARED | own | set().union(*map(flags, [*kinds, SessionOptions]))
    assert set(found) == expected - ({"--num-classes"} if command == "label" else set())
    assert len(found) == len(set(found))


@pytest.mark.parametrize("command", ["label", "refine"])
def test_every_default_of_the_refinement_is_shown_beside_its_option(command: str) -> None:
    rows = re.split(r"(?<!\S)(?=--)", help_of(command)[REFINEMENT])
    own = {each.name: each.default for each in fields(RefineSettings)}
    applied = {**own, "min_trust": 0.87, "num_classes": "those with a name, else 21"}
    texts = {row.split()[0]: row for row in rows if row.strip()}
    for name, default in applied.items():
        flag = f"--{name.replace('_', '-')}"
        if flag in texts:
            shown = re.findall(r"\[default: (.*?)\]", texts[flag])
            assert shown == ["no limit" if default is None else str(default)], name
    assert "--max-area-ratio" in texts


def test_the_default_that_applies_is_shown() -> None:
    label, refine, masks = (help_of(command) for command in ("label", "refine", "masks"))
    assert (
        "--min-inside X Minimum fraction of a mask inside the class. [default: 0.5]"
        in (label[REFINEMENT])
    )
    assert "[default: 0.87]" in label[REFINEMENT] and "[default: 0.87]" in refine[REFINEMENT]
    assert "is an error. [default: those with a name, else 21]" in refine[REFINEMENT]
    assert "[default: guided]" in label[MASKS] and "[default: grid]" in masks[MASKS]
    assert "guided" in refine[MASKS] and "guided" not in masks[MASKS]
    assert "[default: 32]" not in masks[MASKS], "the bundle's own default may apply"


def test_json_goes_to_stdout_alone_or_to_a_file(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    common = ["masks", image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    printed = run(*common, "--json")
    assert json.loads(printed.stdout)["done"] == [str(image)]
    written = run(*common, "--overwrite", "--json", tmp_path / "results.json")
    assert written.stdout == "" and "1 done" in written.stderr
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(printed.stdout)


def test_the_text_stays_where_json_goes_to_a_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_label(tmp_path / folder / "x.png", np.array([[0, 1]], np.uint8))
    arguments = ["evaluate", tmp_path / "a", tmp_path / "b", "--num-classes", 2]
    plain = run(*arguments).stdout
    assert "mIoU 100.00 over 1 images" in plain
    assert run(*arguments, "--json", tmp_path / "figures.json").stdout == plain
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["miou"] == 1
    for alone in (["--json"], ["--json", "-"]):
        assert json.loads(run(*arguments, *alone).stdout) == figures
    assert run(*arguments, "--json", "/dev/null").stdout == plain


def test_an_input_is_never_taken_for_the_json_file(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    before = image.read_bytes()
    result = run("masks", "--json", image, image, "--bundle", lively_bundle, "--out", tmp_path)
    assert "expected a file that ends in .json, or - for stdout" in failed(result, 2)
    assert image.read_bytes() == before
    assert files_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("command", "names"), [("label", list(LABEL_FORMATS)), ("masks", list(MASK_FORMATS))]
)
def test_an_unknown_format_names_those_there_are(
    command: str, names: list[str], tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png")
    for text in ("gif", f"{names[0]},gif", ",", ""):
        result = run(command, tmp_path, "--bundle", "demo", "--out", tmp_path, "--format", text)
        assert f"expected one or more of {', '.join(names)}" in failed(result, 2)
    assert files_in(tmp_path) == ["a.png"]


def test_formats_are_a_list(tmp_path: Path, lively_bundle: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    arguments = ["masks", tmp_path / "images", "--bundle", lively_bundle, "--out", tmp_path / "out"]
    assert run(*arguments, "--format", " coco, records,coco", "--overlay").exit_code == 0
    assert files_in(tmp_path / "out") == ["a.json", "instances.json", "overlays/a.jpg"]


class TextLabels(LabelFormat):
    """A format of somebody else."""

    def path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.txt"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(image_id).write_text(str(label.tolist()))

    def finish(self, images: object, read_label: object) -> None:
        (self.folder / "classes.txt").write_text(" ".join(self.classes))


@pytest.fixture
def text_labels() -> Iterator[str]:
    """Register a label format for one test."""
    LABEL_FORMATS.add("text", TextLabels)
    yield "text"
    LABEL_FORMATS.remove("text")


def test_a_registered_label_format_is_written(
    text_labels: str, tmp_path: Path, lively_bundle: Path
) -> None:
    image, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    arguments = ["label", image, "--bundle", lively_bundle, "--out", out, "--format", text_labels]
    assert run(*arguments).exit_code == 0
    assert files_in(out) == [
        "classes.txt",
        "summary/a.json",
        "text/a.txt",
        "text/classes.txt",
        "voc/a.png",
    ]
    assert json.loads((out / "text" / "a.txt").read_text()) == (
        read_label(out / "voc" / "a.png").tolist()
    )
    assert (out / "text" / "classes.txt").read_text() == "background red green blue"
    assert "1 skipped" in run(*arguments, "--resume").stderr


REGISTERING = """
import sys
from samrefine_rt.cli import main
from samrefine_runtime.backends import BACKENDS
from samrefine_runtime.backends.ort import open_cpu

def open_mine(graph, options):
    print("opened", file=sys.stderr)
    return open_cpu(graph, options)

BACKENDS.add("mine", open_mine)
main()
"""
"""A program that registers a backend and then is `samrefine`."""


def test_a_registered_backend_is_offered_and_used(tmp_path: Path, lively_bundle: Path) -> None:
    def program(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", REGISTERING, *map(str, arguments)]
        paths = {"PYTHONPATH": ":".join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=paths)

    image = write_image(tmp_path / "a.png")
    assert "--backend [auto|tensorrt|cuda|cpu|openvino|mine]" in program("masks", "--help").stdout
    arguments = ["masks", image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    done = program(*arguments, "--backend", "mine", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "opened" in done.stderr and files_in(tmp_path / "out") == ["a.json"]


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


NO_CUDA = "this onnxruntime has no CUDAExecutionProvider (it has CPUExecutionProvider)"


@pytest.mark.parametrize("command", ["masks", "label"])
def test_the_summary_says_what_ran_and_why_nothing_faster_did(
    command: str, tmp_path: Path, lively_bundle: Path, without_cuda: None
) -> None:
    image = write_image(tmp_path / "a.png")
    arguments = [command, image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    lines = run(*arguments, "--threads", 1).stderr.splitlines()
    summary = lines[lines.index("1 done") + 1 :]
    assert summary[0] == "backend cpu"
    reasons = dict(line.removeprefix("not ").split(": ", 1) for line in summary[1:])
    assert reasons["tensorrt"] == "the bundle has no TensorRT engines: samrefine build"
    assert reasons["cuda"].startswith(NO_CUDA)
    # What was asked for needs no reasons; what was skipped could have been run all the same
    lines = run(*arguments, "--threads", 1, "--backend", "cpu").stderr.splitlines()
    assert lines[-2:] == ["0 done, 1 skipped", "backend cpu"]
    printed = json.loads(run(*arguments, "--json", "--overwrite", "--threads", 1).stdout)
    assert set(printed["backends"].values()) == {"cpu"} and "encoder" in printed["backends"]


def test_verbose_output_says_what_runs_each_graph(
    tmp_path: Path, lively_bundle: Path, without_cuda: None
) -> None:
    image = write_image(tmp_path / "a.png")
    arguments = ["label", image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    lines = run(*arguments, "--threads", 1, "-v").stderr.splitlines()
    assert sum(line.startswith(f"INFO: backend cuda is not used: {NO_CUDA}") for line in lines) == 1
    for graph in ("cam", "encoder"):
        assert f"INFO: backend cpu runs graph {graph} in fp32" in lines
    assert "INFO" not in run(*arguments, "--threads", 1, "--overwrite").stderr


def test_masks_that_are_read_are_run_by_nothing(tmp_path: Path, lively_bundle: Path) -> None:
    image, out, labels = write_image(tmp_path / "a.png"), tmp_path / "masks", tmp_path / "labels"
    run("masks", image, "--bundle", lively_bundle, "--out", out, "--threads", 1)
    labels.mkdir()
    write_label(labels / "a.png", np.zeros((40, 56), np.uint8))
    arguments = ["refine", "--pseudo-labels", labels, "--masks", out, "--out", tmp_path / "refined"]
    result = run(*arguments)
    assert result.exit_code == 0 and "backend" not in result.stderr


def test_results_in_another_precision_are_those_of_another_run(
    tmp_path: Path, lively_bundle: Path
) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")
    image = write_image(tmp_path / "a.png")
    arguments = ["masks", image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    arguments += ["--threads", 1, "--backend", "openvino"]
    assert run(*arguments).exit_code == 0
    message = failed(run(*arguments, "--precision", "bf16"), 2)
    assert 'precision "fp32", now "bf16"' in message
    # The engine itself may change from run to run
    assert "1 skipped" in run(*arguments[:-1], "cpu").stderr
    assert run(*arguments, "--precision", "bf16", "--overwrite").exit_code == 0


def test_an_unknown_backend_names_those_there_are(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png")
    result = run("masks", image, "--bundle", "demo", "--out", tmp_path, "--backend", "tpu")
    message = failed(result, 2)
    assert all(repr(name) in message for name in ("tpu", *backends.names()))


def test_an_image_may_be_allowed_to_be_empty(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    arguments = ["label", image, "--bundle", lively_bundle, "--presence-threshold", 1]
    for flag, found in (([], True), (["--allow-empty"], False)):
        out = tmp_path / f"out{len(flag)}"
        assert run(*arguments, "--out", out, *flag).exit_code == 0
        summary = json.loads((out / "summary" / "a.json").read_text())
        assert bool(summary["classes"]) == found
        assert read_label(out / "voc" / "a.png").any() == found


def too_small() -> list[tuple[str, float]]:
    """Options of `refine` and `label` that have a least value, each with one below it."""
    found = [domains(kind) for kind in (RefineSettings, CamSettings, GeneratorSettings)]
    pairs = [pair for each in [*found, domains(SessionOptions)] for pair in each.items()]
    return [
        (d.flag or f"--{name.replace('_', '-')}", 0 if d.is_open else int(d.least) - 1)
        for name, d in pairs
        if d.help and d.least > float("-inf")
    ]


@pytest.mark.parametrize(("option", "value"), too_small())
def test_a_number_out_of_range_is_wrong_use(option: str, value: float, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    arguments = ["label", tmp_path, "--bundle", "demo", "--out", tmp_path / "out"]
    if option == "--num-classes":
        arguments = ["refine", "--pseudo-labels", tmp_path, "--out", tmp_path / "out"]
    message = failed(run(*arguments, option, value), 2)
    assert message.startswith(f"Invalid value for '{option}': ") and "not in the range" in message
    assert files_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("command", "option", "value", "names"),
    [
        ("label", "--method", "best", ["max_iou_imp2", "max_iou_imp", "max_iou", "argmax"]),
        ("label", "--prompts", "all", ["guided", "near", "hierarchical", "grid"]),
        ("masks", "--prompts", "guided", ["hierarchical", "grid"]),
    ],
)
def test_a_choice_that_is_not_offered_names_those_that_are(
    command: str, option: str, value: str, names: list[str], tmp_path: Path
) -> None:
    image = write_image(tmp_path / "a.png")
    arguments = [command, image, "--bundle", "demo", "--out", tmp_path / "out", option, value]
    message = failed(run(*arguments), 2)
    assert re.findall(r"'([\w-]+)'", message) == [option, value, *names]
    assert files_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize("command", ["masks", "label", "refine"])
def test_the_demo_bundle_warns_on_images_of_others(command: str, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_image(images / "a.png")
    arguments = [command, images] if command != "refine" else [command, "--images", images]
    if command == "refine":
        labels = tmp_path / "labels"
        run("label", images, "--bundle", "demo", "--out", labels)
        arguments += ["--pseudo-labels", labels / "voc"]
    result = run(*arguments, "--bundle", "demo", "--out", out, "--points-per-side", 4)
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: demo: trained on drawn scenes only")


def test_the_demo_bundle_does_not_warn_where_it_belongs(tmp_path: Path) -> None:
    assert "Warning" not in run("demo", "--out", tmp_path / "demo").stderr
    assert "Warning" not in run("inspect", "demo").stderr


def test_records_of_an_image_never_replace_the_coco_file(
    tmp_path: Path, lively_bundle: Path
) -> None:
    write_image(tmp_path / "in" / "instances.png")
    arguments = ["masks", tmp_path / "in", "--bundle", lively_bundle, "--out", tmp_path / "out"]
    message = failed(run(*arguments, "--format", "records,coco"), 2)
    assert "instances.png would have two files of the name" in message
    assert not (tmp_path / "out").exists()
    assert run(*arguments, "--format", "coco").exit_code == 0
