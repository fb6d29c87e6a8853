"""`samrefine segment`: points and boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.formats.records import read_masks
from samrefine_runtime.image import read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.segment import Segmenter
from tests.command import failed, files_in, run, write_image
from tests.samples import ONE_THREAD

BOXES = [("dog", (6, 6, 20, 20)), ("cat", (30, 22, 50, 36))]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        write_image(tmp_path / "images" / f"{name}.png", seed)
    return tmp_path / "images"


def write_boxes(path: Path, boxes: list[tuple[str, tuple[int, ...]]]) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation>{objects}</annotation>")


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    write_boxes(tmp_path / "boxes" / "a.xml", BOXES)
    write_boxes(tmp_path / "boxes" / "b.xml", BOXES[1:])
    return tmp_path / "boxes"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def common(images: Path, bundle: Path, out: Path) -> list[object]:
    return ["segment", images, "--bundle", bundle, "--out", out, "--threads", 1]


NAMES = ["--classes", "cat,dog"]


def test_boxes_become_labels_and_masks(
    images: Path, boxes: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = [*common(images, lively_bundle, out), "--boxes", boxes, *NAMES]
    formats = ["--format", "coco-rle,labelme", "--masks-format", "records,png,coco"]
    result = run(*arguments, *formats, "--overlay", "--report")
    assert result.exit_code == 0, result.output
    found = {name for name in files_in(out) if not name.startswith(("masks/a/", "masks/b/"))}
    assert found >= {
        "classes.txt", "labelme/a.json", "masks/a.json", "masks/instances.json",
        "overlays/b.jpg", "report.html", "report/a.json", "summary/a.json", "voc/a.png",
    }  # fmt: skip
    assert "masks/b/0000.png" in files_in(out) and "masks/b/0001.png" not in files_in(out)
    assert (out / "classes.txt").read_text() == "background\ncat\ndog\n"
    # As the library does it
    expected = Segmenter(lively_bundle, session=ONE_THREAD).boxes(
        read_image(images / "a.png"), [edges for _, edges in BOXES], [2, 1]
    )
    assert np.array_equal(read_label(out / "voc" / "a.png"), expected.label)
    masks = read_masks(out / "masks" / "a.json")
    assert all(np.array_equal(masks.dense(i), expected.masks.dense(i)) for i in range(2))
    summary = json.loads((out / "summary" / "a.json").read_text())
    assert [each["class"] for each in summary["prompts"]] == ["dog", "cat"]
    assert "0 done, 2 skipped" in run(*arguments, *formats, "--overlay", "--report").stderr


def test_further_formats_are_made_from_what_is_there(
    images: Path, boxes: Path, out: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    further = ["--format", "coco,yolo", "--masks-format", "png,coco"]
    for place in (out, tmp_path / "other"):
        arguments = [*common(images, lively_bundle, place), "--boxes", boxes, *NAMES]
        if place == out:
            assert run(*arguments).exit_code == 0
        assert "2 done" in run(*arguments, *further).stderr
    assert files_in(out) == files_in(tmp_path / "other")
    for name in files_in(out):
        if not name.startswith("summary"):
            assert (out / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_boxes_that_change_are_noticed(
    images: Path, boxes: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = [*common(images, lively_bundle, out), "--boxes", boxes]
    assert "2 done" in run(*arguments, *NAMES).stderr
    write_boxes(boxes / "a.xml", BOXES[:1])
    assert "1 done, 1 skipped" in run(*arguments, *NAMES).stderr
    assert {*np.unique(read_label(out / "voc" / "a.png"))} <= {0, 2}
    assert "(classes " in failed(run(*arguments, "--classes", "dog,cat"), 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("dog", (6, 6, 2000, 20)), "box 1 (dog) from 6, 6 to 2000, 20 extends beyond the image"),
        (("dog", (20, 6, 6, 20)), "is empty, expected left < right"),
        (("dgo", (6, 6, 20, 20)), "box 1: unknown class 'dgo', did you mean dog?"),
        (None, "no a.xml in"),
    ],
)
def test_broken_boxes_fail_their_image_alone(
    wrong: tuple[str, tuple[int, ...]] | None,
    message: str,
    images: Path,
    boxes: Path,
    out: Path,
    lively_bundle: Path,
) -> None:
    if wrong is None:
        (boxes / "a.xml").unlink()
    else:
        write_boxes(boxes / "a.xml", [wrong])
    arguments = [*common(images, lively_bundle, out), "--boxes", boxes, *NAMES]
    assert message in failed(run(*arguments), 1)
    assert [name for name in files_in(out) if name.startswith("voc/")] == ["voc/b.png"]
    write_boxes(boxes / "a.xml", BOXES)
    assert "1 done" in run(*arguments, "--retry-failed").stderr


def test_boxes_on_the_command_line(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = common(images, lively_bundle, out)
    options = ["--box", "6,6,20,20,dog", "--box", "30,22,50,36,cat"]
    result = run(*arguments, *options, "--json")
    assert result.exit_code == 0
    assert (out / "classes.txt").read_text() == "background\ndog\ncat\n"
    expected = Segmenter(lively_bundle, session=ONE_THREAD).boxes(
        read_image(images / "b.png"), [edges for _, edges in BOXES], [1, 2]
    )
    assert np.array_equal(read_label(out / "voc" / "b.png"), expected.label)
    message = failed(run(*arguments, "--box", "6,6,20,21"), 2)
    assert "holds results of another run" in message and "prompts" in message


def test_points_on_the_command_line(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = [*common(images, lively_bundle, out), "--point", "13,13", "--point", "40,30,0"]
    assert run(*arguments, "--box", "2,2,30,30").exit_code == 0
    assert (out / "classes.txt").read_text() == "background\nobject\n"
    expected = Segmenter(lively_bundle, session=ONE_THREAD).points(
        read_image(images / "b.png"), [[13, 13], [40, 30]], [1, 0], [2, 2, 30, 30]
    )
    assert np.array_equal(read_label(out / "voc" / "b.png"), expected.label)


def test_a_prompt_outside_one_image(images: Path, out: Path, lively_bundle: Path) -> None:
    write_image(images / "c.png", 3, (100, 120))
    for option in (["--box", "10,10,100,90"], ["--point", "100,90"]):
        result = run(*common(images, lively_bundle, out / option[0]), *option)
        assert result.exit_code == 1 and "1 done, 2 failed" in result.stderr
        assert f"{' '.join(option)} " in result.stderr and "56 x 40 pixels" in result.stderr


def test_prompts_without_a_mask_are_told_of(
    images: Path, out: Path, small_bundle: Path, tmp_path: Path
) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(small_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["sam"]["mask_threshold"] = 1000.0
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = run(*common(images, bundle, out), "--box", "6,6,20,20")
    assert result.exit_code == 0
    assert "prompts without a mask: 2, in a, b" in result.stderr
    assert not read_label(out / "voc" / "a.png").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --boxes, or --box and --point"),
        (["--boxes", ".", "--point", "1,2"], "give either --boxes, or --box and --point"),
        (["--point", "1"], "'1', expected x,y or x,y,0 or x,y,1"),
        (["--point", "1,2,3"], "expected x,y"),
        (["--point", "1,a"], "expected x,y"),
        (["--point", "1,nan"], "expected x,y"),
        (["--box", "1,2,3"], "expected x0,y0,x1,y1"),
        (["--box", "3,2,1,4"], "expected x0,y0,x1,y1 with x0 < x1"),
        (["--box", "1,2,3,inf"], "expected x0,y0,x1,y1"),
        (["--point", "1,2", *["--box", "1,2,3,4"] * 2], "--point with several --box"),
        (["--point", "1,2,0"], "all of --point lie beside the object"),
        (["--box", "1,2,3,4,dgo", "--classes", "dog"], "unknown class 'dgo', did you mean dog?"),
        (["--boxes", "."], "no boxes here, expected a folder of VOC"),
        (["--box", "1,2,3,4", "--masks-format", "gif"], "expected one or more of records, png"),
    ],
    ids=" ".join,
)
def test_prompts_that_cannot_be(
    options: list[str],
    message: str,
    images: Path,
    out: Path,
    lively_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(images)
    assert message in failed(run(*common(images, lively_bundle, out), *options), 2)
    assert not out.exists()
