"""Images in folders of folders, in lists, and what is left out of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.labels import read_label, write_label
from tests.command import failed, files_in, run, write_image

FEW = ["--threads", 1, "--points-per-side", 2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """red/1.png, blue/1.png, blue/more/2.png and 3.png."""
    for seed, name in enumerate(("red/1", "blue/1", "blue/more/2", "3")):
        write_image(tmp_path / "photos" / f"{name}.png", seed)
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


IDS = ["3", "blue/1", "blue/more/2", "red/1"]


def test_outputs_keep_the_folders(photos: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["label", photos, "--bundle", lively_bundle, "--out", out, *FEW]
    arguments += ["--format", "coco,labelme,yolo", "--overlay", "--report", "--split", 0]
    assert run(*arguments).exit_code == 0
    files = files_in(out)
    for folder, suffix in (
        ("voc", "png"), ("summary", "json"), ("labelme", "json"), ("yolo/labels/train", "txt"),
        ("overlays", "jpg"), ("report", "json"),
    ):  # fmt: skip
        assert [f"{folder}/{name}.{suffix}" for name in IDS] == [
            name for name in files if name.startswith(f"{folder}/")
        ]
    coco = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == [f"{name}.png" for name in IDS]
    assert {"blue/1", "red/1"} <= {*IDS} and "report.html" in files
    labelme = json.loads((out / "labelme" / "blue" / "more" / "2.json").read_text())
    assert (out / "labelme" / "blue" / "more" / labelme["imagePath"]).resolve() == (
        photos / "blue" / "more" / "2.png"
    )
    assert "0 done, 4 skipped" in run(*arguments).stderr


def test_labels_and_masks_in_folders_are_refined_and_evaluated(
    photos: Path, out: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    bundle = ["--bundle", lively_bundle, *FEW]
    formats = ["--format", "records,png,coco"]
    assert run("masks", photos, *bundle, "--out", tmp_path / "masks", *formats).exit_code == 0
    label = np.zeros((40, 56), np.uint8)
    label[6:20, 6:20] = 1
    for name in IDS:
        write_label(tmp_path / "pseudo" / f"{name}.png", label)
    arguments = ["refine", "--pseudo-labels", tmp_path / "pseudo", "--min-trust", 0]
    found = {}
    for masks in (tmp_path / "masks", tmp_path / "masks" / "instances.json"):
        to = out / masks.stem
        assert run(*arguments, "--masks", masks, "--out", to).exit_code == 0
        found[masks.stem] = [read_label(to / "voc" / f"{name}.png").tobytes() for name in IDS]
    generated = ["--images", photos, *bundle, "--prompts", "grid"]
    assert run(*arguments, *generated, "--out", out / "generated").exit_code == 0
    # The images may lie in more folders than the labels
    (photos.parent / "set").mkdir()
    photos.rename(photos.parent / "set" / "train")
    generated[1] = photos.parent / "set"
    assert "4 done" in run(*arguments, *generated, "--out", out / "more").stderr
    found["generated"] = [
        (read_label(out / "generated" / "voc" / f"{n}.png").tobytes()) for n in IDS
    ]
    assert found["masks"] == found["instances"] == found["generated"]
    table = run("evaluate", out / "masks" / "voc", tmp_path / "pseudo").stdout
    assert "over 4 images" in table


def test_what_is_left_out_is_said(photos: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["masks", photos, "--bundle", lively_bundle, "--out", out, *FEW]
    assert "left out" not in run(*arguments).stderr
    (photos / "notes.txt").write_text("")
    (photos / "blue" / "clip.mp4").write_text("")
    (photos / ".hidden").mkdir()
    write_image(photos / ".hidden" / "x.png")
    (photos / "red" / "._1.png").write_text("")
    inner = photos / "old results"
    assert run("masks", photos / "3.png", *arguments[2:5], inner, *FEW).exit_code == 0
    result = run(*arguments)
    assert (
        "4 images; left out: 2 hidden (.hidden, ._1.png), 2 of other types (notes.txt, clip.mp4), "
        "1 holding results (old results)"
    ) in result.stderr
    assert "left out" not in run(*arguments, "-q").stderr
    counts = json.loads(run(*arguments, "--json").stdout)["left_out"]
    assert counts == {"hidden": 2, "of other types": 2, "holding results": 1}
    # What is given by name is looked into, whatever it is called
    assert "1 done" in run("masks", photos / ".hidden", *arguments[2:]).stderr


def test_no_images_says_what_there_is(tmp_path: Path, out: Path) -> None:
    for name in "abcd":
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / f"{name}.heic").write_text("")
    message = failed(run("masks", tmp_path / "photos", "--bundle", "demo", "--out", out), 2)
    assert "no images in" in message
    assert "left out: 4 of other types (a.heic, b.heic, c.heic, ...)" in message


def test_links_to_folders_are_followed_once(photos: Path, out: Path, lively_bundle: Path) -> None:
    (photos / "blue" / "up").symlink_to(photos)
    result = run("masks", photos, "--bundle", lively_bundle, "--out", out, *FEW)
    assert "4 done" in result.stderr


def test_images_of_one_name_in_two_given_folders(
    photos: Path, out: Path, lively_bundle: Path
) -> None:
    given = [photos / "red", photos / "blue"]
    message = failed(run("masks", *given, "--bundle", lively_bundle, "--out", out), 2)
    assert "would both be written as 1; give the folder above both" in message


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_of_images(
    name: str,
    photos: Path,
    out: Path,
    lively_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lines stand for arguments, from the working folder or from that of the list."""
    lines = ["photos/3.png", str(photos / "blue")]
    if name == "list.csv":
        lines = ["note,Image", *(f'"a, b",{line}' for line in lines)]
    (tmp_path / name).write_text("\n".join(["# mine", "", *lines] if name[-1] == "t" else lines))
    for place in (tmp_path, tmp_path / "photos"):
        monkeypatch.chdir(place)
        result = run("masks", f"@{tmp_path / name}", "--bundle", lively_bundle, "--out", out, *FEW)
        assert result.exit_code == 0
        assert files_in(out) == ["1.json", "3.json", "more/2.json"]


def test_lists_that_cannot_be_used(photos: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["--bundle", lively_bundle, "--out", out, *FEW]
    bad = photos / "list.txt"
    assert "list.txt: no such file" in failed(run("masks", f"@{bad}", *arguments), 2)
    bad.write_text("\n# nothing\n")
    assert "list.txt: lists no images" in failed(run("masks", f"@{bad}", *arguments), 2)
    bad.write_bytes(b"\xff\xfe")
    assert "list.txt: not a list of images" in failed(run("masks", f"@{bad}", *arguments), 2)
    # One image that is gone does not stop the others
    bad.write_text(f"{photos / '3.png'}\n{photos / 'gone.png'}\n")
    result = run("masks", f"@{bad}", *arguments)
    assert "gone.png: no such file" in failed(result, 1)
    assert files_in(out) == ["3.json", "failures.jsonl"]


def test_an_image_may_be_called_like_a_list(
    out: Path, lively_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "@a.png")
    assert run("masks", "@a.png", "--bundle", lively_bundle, "--out", out, *FEW).exit_code == 0


def test_folders_name_the_classes(photos: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["label", photos, "--bundle", lively_bundle, "--out", out, *FEW]
    result = run(*arguments, "--image-labels", "folders")
    assert "3: no folder in its id; the folder of an image must be called as its class" in (
        failed(result, 1)
    )
    for name, value in (("red/1", 1), ("blue/1", 3), ("blue/more/2", 3)):
        assert {*np.unique(read_label(out / "voc" / f"{name}.png"))} <= {0, value}, name
    assert "3 skipped, 1 failed" in run(*arguments, "--image-labels", "folders").stderr
    (photos / "blue").rename(photos / "blu")
    result = run(*arguments, "--image-labels", "folders")
    assert "blu/1: unknown class 'blu', did you mean blue?" in result.stderr
    (photos / "red").rename(photos / "rot")
    assert failed(run(*arguments, "--image-labels", "folders"), 2) == (
        "--image-labels folders: no folder is called as a class of the bundle (red, green, blue); "
        "the images lie in blu, more, rot"
    )


def test_a_folder_of_background_has_no_class(
    tmp_path: Path, out: Path, lively_bundle: Path
) -> None:
    write_image(tmp_path / "photos" / "red" / "background" / "1.png")
    arguments = ["label", tmp_path / "photos", "--bundle", lively_bundle, "--out", out, *FEW]
    assert run(*arguments, "--image-labels", "folders").exit_code == 0
    assert not read_label(out / "voc" / "red" / "background" / "1.png").any()


def test_image_labels_of_images_in_folders(
    photos: Path, out: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("image,labels\nred/1.png,red\nblue/1.png,blue\n2.png,blue\n3,red\n")
    arguments = ["label", photos, "--bundle", lively_bundle, "--out", out, *FEW]
    assert run(*arguments, "--image-labels", table).exit_code == 0
    for name, value in (("red/1", 1), ("blue/1", 3), ("blue/more/2", 3), ("3", 1)):
        assert {*np.unique(read_label(out / "voc" / f"{name}.png"))} <= {0, value}, name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.csv", 'image,decision,note\nblue/1,reject,"too, large"\n3,accept,\n'),
        ("w.csv", "decision,image\nreject,blue/1\nreject,3\n"),
        ("w.csv", "blue/1.png\n3.png\n"),
        ("w.txt", "photos/blue/1.png\nphotos/3.png\n"),
    ],
)
def test_only_what_a_list_names(
    name: str, text: str, photos: Path, out: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    arguments = ["label", photos, "--bundle", lively_bundle, "--out", out, *FEW]
    arguments += ["--format", "coco"]
    result = run(*arguments, "--only", tmp_path / name)
    assert result.exit_code == 0 and "2 done" in result.stderr
    assert sorted(p.stem for p in (out / "voc").rglob("*.png")) == ["1", "3"]
    # What is done is done again only if that is asked for; the others stay
    assert "2 done, 2 skipped" in run(*arguments).stderr
    assert "0 done, 2 skipped" in run(*arguments, "--only", tmp_path / name).stderr
    assert "2 done" in run(*arguments, "--only", tmp_path / name, "--overwrite").stderr
    coco = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == [f"{each}.png" for each in IDS]


def test_lists_of_other_images(
    photos: Path, out: Path, lively_bundle: Path, tmp_path: Path
) -> None:
    only = tmp_path / "w.csv"
    only.write_text("image\n3\nred/1\nred/9\ngone\n")
    arguments = ["masks", photos, "--bundle", lively_bundle, "--out", out, *FEW, "--only", only]
    result = run(*arguments)
    assert result.exit_code == 0 and "2 done" in result.stderr
    assert "2 listed images are not among the inputs: red/9, gone" in result.stderr
    only.write_text("image\ngone\n")
    assert "none of the images is listed (it lists gone)" in failed(run(*arguments), 2)
    only.write_text("")
    assert "lists no images" in failed(run(*arguments), 2)
