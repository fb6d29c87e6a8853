"""Options that commands share: where they come from, what they show, what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from samrefine_rt.cli.grouped import CAM, GENERAL, INPUT, MASKS, REFINEMENT, RUNNING
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.formats import LABEL_FORMATS, MASK_FORMATS
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


def test_the_default_that_applies_is_shown() -> None:
    label, refine, masks = (help_of(command) for command in ("label", "refine", "masks"))
    assert (
        "--min-inside X Minimum fraction of a mask inside the class. [default: 0.5]"
        in (label[REFINEMENT])
    )
    assert "[default: 0.87]" in label[REFINEMENT] and "[default: 0.87]" in refine[REFINEMENT]
    assert "is an error. [default: 21]" in refine[REFINEMENT]
    assert "[default: guided]" in label[MASKS] and "[default: grid]" in masks[MASKS]
    assert "guided" in refine[MASKS] and "guided" not in masks[MASKS]
    assert "[default: 32]" not in masks[MASKS], "the bundle's own default may apply"


def test_json_goes_to_stdout_alone_or_to_a_file(tmp_path: Path, lively_bundle: Path) -> None:
    image = write_image(tmp_path / "a.png")
    common = ["masks", image, "--bundle", lively_bundle, "--out", tmp_path / "out"]
    printed = run(*common, "--json")
    assert json.loads(printed.stdout)["done"] == [str(image)]
    written = run(*common, "--json", tmp_path / "results.json")
    assert written.stdout == "" and "1 done" in written.stderr
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(printed.stdout)


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
