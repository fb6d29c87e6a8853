"""What commands do with what is in their output folder, and with what is not theirs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from samrefine_runtime.labels import read_label, write_label
from samrefine_runtime.runs import HIDDEN
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import failed, files_in, run, write_image

FEW = ["--threads", 1, "--points-per-side", 2]

COCO = "coco/annotations/instances_default.json"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate("ab"):
        write_image(tmp_path / "images" / f"{name}.png", number)
    return tmp_path / "images"


@pytest.fixture
def labels(images: Path, tmp_path: Path) -> Path:
    label = read_label_of_red(images / "a.png")
    for name in "ab":
        write_label(tmp_path / "labels" / f"{name}.png", label)
    return tmp_path / "labels"


def read_label_of_red(image: Path) -> object:
    import numpy as np

    label = np.zeros((40, 56), np.uint8)
    label[6:20, 6:20] = 1
    return label


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def commands(images: Path, labels: Path, lively_bundle: Path) -> dict[str, list[object]]:
    """A command of each kind, but for --out."""
    common = ["--bundle", lively_bundle, *FEW]
    return {
        "masks": ["masks", images, *common],
        "label": ["label", images, *common],
        "refine": ["refine", "--pseudo-labels", labels, "--images", images, *common],
    }


@pytest.mark.parametrize("command", ["masks", "label", "refine"])
@pytest.mark.parametrize("place", ["images", "images/out", "."])
def test_an_output_folder_at_inside_or_around_an_input(
    command: str, place: str, commands: dict[str, list[object]], tmp_path: Path
) -> None:
    before = contents(tmp_path)
    message = failed(run(*commands[command], "--out", tmp_path / place), 2)
    assert "choose another output folder" in message
    assert contents(tmp_path) == before


def test_refined_labels_never_replace_the_pseudo_labels(
    commands: dict[str, list[object]], labels: Path, tmp_path: Path
) -> None:
    before = contents(labels)
    assert "is an input" in failed(run(*commands["refine"], "--out", labels), 2)
    assert "holds the input" in failed(run(*commands["refine"], "--out", tmp_path), 2)
    assert contents(labels) == before


@pytest.mark.parametrize(
    ("command", "theirs"),
    [
        (["masks"], "a.json"),
        (["masks", "--format", "coco"], "instances.json"),
        (["masks", "--format", "png"], "a/0000.png"),
        (["masks", "--overlay"], "overlays/a.jpg"),
        (["label"], "voc/a.png"),
        (["label"], "summary/a.json"),
        (["label", "--format", "yolo"], "yolo/labels/train/a.txt"),
        (["label", "--format", "yolo"], "yolo/classes.txt"),
        (["label", "--report"], "report.html"),
        (["refine"], "voc/a.png"),
        (["refine"], "classes.txt"),
        (["label"], "classes.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_files_of_the_user_are_never_replaced(
    command: list[str],
    theirs: str,
    overwrite: list[str],
    commands: dict[str, list[object]],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    path, spans = (
        out / theirs,
        theirs in ("instances.json", "yolo/classes.txt", "report.html", "classes.txt"),
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    (path.parent / "notes.txt").write_bytes(b"mine too")
    result = run(*commands[command[0]], *command[1:], *overwrite, "--out", out)
    assert f"{path} is in the way" in failed(result, 1)
    assert path.read_bytes() == b"mine"
    assert (path.parent / "notes.txt").read_bytes() == b"mine too"
    # The rest is done all the same
    assert ("2 done, 1 failed" if spans else "1 done, 1 failed") in result.stderr


@pytest.mark.parametrize("command", ["masks", "label", "refine"])
def test_an_output_that_cannot_be_written_fails_its_image_alone(
    command: str, commands: dict[str, list[object]], tmp_path: Path
) -> None:
    place = {"masks": "a.json", "label": "voc/a.png", "refine": "voc/a.png"}[command]
    (tmp_path / "out" / place).mkdir(parents=True)
    result = run(*commands[command], "--out", tmp_path / "out")
    assert "in the way" in failed(result, 1)
    assert "1 done, 1 failed" in result.stderr


def test_names_too_long_for_an_output(tmp_path: Path, lively_bundle: Path) -> None:
    for last in "xy":
        write_image(tmp_path / "images" / f"{'n' * 250}{last}.png")
    out = tmp_path / "out"
    arguments = ["label", tmp_path / "images", "--bundle", lively_bundle, "--out", out, *FEW]
    formats = "voc,coco,labelme,yolo"
    result = run(*arguments, "--format", formats, "--overlay", "--report")
    assert result.exit_code == 0, result.output
    assert len(list((out / "voc").iterdir())) == 2
    assert "0 done, 2 skipped" in run(*arguments, "--format", formats).stderr


@pytest.mark.parametrize("name", ["a\nError: forged.png", "a\x1b[31m.png"])
def test_control_characters_of_names_are_not_printed(
    name: str, tmp_path: Path, lively_bundle: Path
) -> None:
    image = tmp_path / name
    image.write_bytes(b"broken")
    result = run("masks", image, "--bundle", lively_bundle, "--out", tmp_path / "out")
    assert "not a readable image" in failed(result, 1)
    assert "\x1b" not in result.output


def test_json_results_replace_no_other_file(
    commands: dict[str, list[object]], tmp_path: Path
) -> None:
    mine = tmp_path / "annotations.json"
    mine.write_text("{}")
    message = failed(run(*commands["masks"], "--out", tmp_path / "out", "--json", mine), 2)
    assert "annotations.json is in the way" in message
    assert mine.read_text() == "{}"
    assert not (tmp_path / "out").exists(), "it is said before the work"


@pytest.mark.parametrize("command", ["masks", "label", "refine"])
def test_other_settings_are_noticed(
    command: str, commands: dict[str, list[object]], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    assert run(*commands[command], *out).exit_code == 0
    before = contents(tmp_path / "out")
    changed = [*commands[command], "--points-per-side", 3, *out]
    message = failed(run(*changed), 2)
    assert "points_per_side 2, now 3" in message and "--overwrite" in message
    assert contents(tmp_path / "out") == before
    result = run(*changed, "--overwrite")
    assert "2 done" in result.stderr
    assert "replacing the results of another run (points_per_side 2, now 3)" in result.stderr


def test_results_of_other_settings_that_stay_are_told_of(
    commands: dict[str, list[object]], images: Path, tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    assert run(*commands["label"], *out).exit_code == 0
    one = ["label", images / "a.png", *commands["label"][2:], "--min-trust", 0, "--overwrite"]
    assert "holds results of 1 images made with other settings" in run(*one, *out).stderr
    assert "voc/b.png" in files_in(tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "argmax"],
        ["--min-inside", 0.6],
        ["--min-trust", 0.5],
        ["--background-score", 0.3],
        ["--pred-iou-thresh", 0.3],
        ["--prompts", "grid"],
    ],
    ids=lambda options: options[0],
)
def test_every_setting_that_changes_labels_is_noticed(
    options: list[object], commands: dict[str, list[object]], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    assert run(*commands["label"], *out).exit_code == 0
    name = str(options[0])[2:].replace("-", "_")
    assert f"({name} " in failed(run(*commands["label"], *options, *out), 2)


def test_settings_that_change_nothing_are_not(
    commands: dict[str, list[object]], tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    assert run(*commands["label"], *out).exit_code == 0
    result = run(*commands["label"], "--points-per-batch", 2, "--threads", 2, *out)
    assert "0 done, 2 skipped" in result.stderr


def test_a_bundle_of_another_class_order_is_noticed(
    images: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(lively_bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["cam"]["classes"].reverse()
    (other / "manifest.json").write_text(json.dumps(manifest))
    arguments = ["label", images, "--out", tmp_path / "out", *FEW, "--format", "coco", "--bundle"]
    assert run(*arguments, lively_bundle).exit_code == 0
    assert "(bundle " in failed(run(*arguments, other), 2)
    assert run(*arguments, other, "--overwrite").exit_code == 0
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    assert [each["name"] for each in coco["categories"]] == manifest["cam"]["classes"]
    summary = json.loads((tmp_path / "out" / "summary" / "a.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    of_first = [each for each in coco["annotations"] if each["image_id"] == 1]
    assert {names[each["category_id"]] for each in of_first} == {
        name for name, of in summary["classes"].items() if of["pixels"]
    }


def test_what_an_image_is_made_from_is_noticed(
    commands: dict[str, list[object]], images: Path, labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*commands["refine"], "--out", out]
    assert "2 done" in run(*arguments).stderr
    write_label(labels / "a.png", read_label(labels / "a.png") * 2)
    assert "1 done, 1 skipped" in run(*arguments).stderr
    assert set(read_label(out / "voc" / "a.png").flat) <= {0, 2}
    write_image(images / "b.png", 9)
    assert "1 done, 1 skipped" in run(*arguments).stderr
    (out / "voc" / "a.png").write_bytes(b"")
    assert "1 done, 1 skipped" in run(*arguments).stderr
    assert read_label(out / "voc" / "a.png").any()


def test_image_level_labels_that_change_are_noticed(
    commands: dict[str, list[object]], tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    arguments = [*commands["label"], "--image-labels", table, "--out", tmp_path / "out"]
    table.write_text("image,labels\na.png,red\nb.png,red\n")
    assert "2 done" in run(*arguments).stderr
    table.write_text("image,labels\na.png,red;blue\nb.png,red\n")
    assert "1 done, 1 skipped" in run(*arguments).stderr


def test_an_image_that_broke_since(
    commands: dict[str, list[object]], images: Path, tmp_path: Path
) -> None:
    arguments = [*commands["label"], "--format", "coco", "--out", tmp_path / "out"]
    assert run(*arguments).exit_code == 0
    (images / "a.png").write_bytes(b"broken")
    assert "not a readable image" in failed(run(*arguments), 1)
    assert not [name for name in files_in(tmp_path / "out") if name.endswith(("a.png", "a.json"))]
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    assert [each["file_name"] for each in coco["images"]] == ["b.png"]


def test_failures_alone_are_tried_again(
    commands: dict[str, list[object]], images: Path, tmp_path: Path
) -> None:
    good = (images / "a.png").read_bytes()
    (images / "a.png").write_bytes(b"broken")
    arguments = [*commands["label"], "--out", tmp_path / "out"]
    assert run(*arguments).exit_code == 1
    failures = tmp_path / "out" / "failures.jsonl"
    line = json.loads(failures.read_text())
    assert line["input"] == str(images / "a.png") and line["error"] == "ImageError"
    (images / "a.png").write_bytes(good)
    write_image(images / "c.png", 3)
    assert "1 done" in run(*arguments, "--retry-failed").stderr
    assert not failures.exists()
    assert "1 done, 2 skipped" in run(*arguments).stderr


def test_files_that_span_images_hold_those_of_earlier_runs(
    commands: dict[str, list[object]], images: Path, tmp_path: Path
) -> None:
    arguments = [*commands["label"][2:], "--out", tmp_path / "out", "--format", "coco"]
    for name in ("b.png", "a.png"):
        assert run("label", images / name, *arguments).exit_code == 0
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    assert [each["file_name"] for each in coco["images"]] == ["a.png", "b.png"]


def start(
    *arguments: object,
    program: Sequence[str] = ("-m", "samrefine_rt"),
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
def test_a_signal_ends_a_run_in_order(
    number: int, code: int, word: str, lively_bundle: Path, tmp_path: Path
) -> None:
    for name in range(200):
        write_image(tmp_path / "images" / f"{name}.png", name)
    out = tmp_path / "out"
    process = start("masks", tmp_path / "images", "--bundle", lively_bundle, "--out", out)
    while process.poll() is None and len(list(out.glob("*.json"))) < 3:
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert word in stderr and "Traceback" not in stderr
    assert not (out / HIDDEN / "staging").exists()
    done = len(list(out.glob("*.json")))
    assert 3 <= done < 200


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4])
def test_an_interruption_while_importing(delay: float, tmp_path: Path) -> None:
    first = "from samrefine_rt.__main__ import exit_at_once, run; exit_at_once()"
    code = f"{first}; print('ready', flush=True); run()"
    process = start("demo", "--out", tmp_path / "out", program=["-c", code])
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.endswith("interrupted\n")


def test_two_runs_into_one_folder(
    commands: dict[str, list[object]], tmp_path: Path, lively_bundle: Path
) -> None:
    for name in range(200):
        write_image(tmp_path / "many" / f"{name}.png", name)
    out = tmp_path / "out"
    process = start("masks", tmp_path / "many", "--bundle", lively_bundle, "--out", out, *FEW)
    try:
        while process.poll() is None and not list(out.glob("*.json")):
            time.sleep(0.01)
        message = failed(run(*commands["masks"], "--out", out), 2)
    finally:
        process.kill()
        process.communicate()
    assert "another run is writing into this folder" in message


def test_files_that_may_not_grow(lively_bundle: Path, images: Path, tmp_path: Path) -> None:
    """The journal meets the limit last; what is whole then stays, and the next run goes on."""
    for number in range(20):
        write_image(images / f"{number:02}.png", number)
    arguments = ["label", images, "--bundle", lively_bundle, "--out", tmp_path / "out", *FEW]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    code = f"{limit}; from samrefine_rt.__main__ import run; run()"
    process = start(*arguments, program=["-c", code])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "journal.jsonl: cannot be written (File too large)" in stderr
    assert "Traceback" not in stderr
    assert " skipped" in run(*arguments).stderr
    assert len(list((tmp_path / "out" / "voc").iterdir())) == 22


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_no_more_ends_the_run(
    reason: int,
    commands: dict[str, list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "fsync", fsync)
    out = ["--out", tmp_path / "out"]
    assert os.strerror(reason) in failed(run(*commands["label"], *out), 1)
    monkeypatch.undo()
    assert run(*commands["label"], *out).exit_code == 0
    assert run(*commands["label"], "--out", tmp_path / "undisturbed").exit_code == 0
    for name in ("a", "b"):
        at = Path("voc") / f"{name}.png"
        assert (tmp_path / "out" / at).read_bytes() == (tmp_path / "undisturbed" / at).read_bytes()


def test_an_image_that_vanishes_and_one_that_changes_during_the_run(
    images: Path, lively_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both happen while the image before is worked on, when the next one is read ahead already."""
    for number, name in enumerate("cdef"):
        write_image(images / f"{name}.png", number)
    generate = MaskGenerator.generate
    calls = []

    def disturbing(self: MaskGenerator, *arguments: object, **more: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            (images / "b.png").unlink()
        if len(calls) == 3:
            write_image(images / "e.png", 77)
        return generate(self, *arguments, **more)

    monkeypatch.setattr(MaskGenerator, "generate", disturbing)
    arguments = ["masks", images, "--bundle", lively_bundle, "--out", tmp_path / "out", *FEW, "-q"]
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)["failed"]) <= {
        str(images / "b.png"),
        str(images / "e.png"),
    }
    monkeypatch.undo()
    # Whatever was read, the next run leaves what an undisturbed one does
    assert run(*arguments).exit_code == 0
    assert run(*arguments[:-1], "--out", tmp_path / "fresh").exit_code == 0
    for path in (tmp_path / "fresh").glob("*.json"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
