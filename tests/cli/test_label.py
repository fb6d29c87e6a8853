"""`samrefine label`, the whole way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.formats import LABEL_FORMATS
from samrefine_runtime.image import read_image
from samrefine_runtime.labels import read_label
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from tests.command import failed, files_in, run, write_image
from tests.samples import ONE_THREAD

SIZE = (40, 56)
ROWS = ["image,labels", "a.png,red;blue", "b.jpg,red"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_image(folder / "a.png", 1, SIZE)
    write_image(folder / "b.jpg", 2, SIZE)
    return folder


@pytest.fixture
def known(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(ROWS) + "\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def label(bundle: Path, image: Path, *classes: str, **settings: Any) -> np.ndarray:
    labeler = Labeler(Bundle.load(bundle), session=ONE_THREAD, **settings)
    present = np.array([name in classes for name in labeler.classes])
    return labeler.label(read_image(image), present).label


def test_every_format(images: Path, known: Path, out: Path, lively_bundle: Path) -> None:
    formats = "voc,coco,coco-rle,labelme,yolo"
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out, "--threads", 1]
    result = run(*arguments, "--image-labels", known, "--format", formats, "--overlay")
    assert result.exit_code == 0, result.output
    assert "2 done" in result.stderr
    assert files_in(out) == [
        "classes.txt",
        "coco-rle/annotations/instances_default.json",
        "coco-rle/images/default/a.png",
        "coco-rle/images/default/b.jpg",
        "coco/annotations/instances_default.json",
        "coco/images/default/a.png",
        "coco/images/default/b.jpg",
        "labelme/a.json",
        "labelme/b.json",
        "overlays/a.jpg",
        "overlays/b.jpg",
        "summary/a.json",
        "summary/b.json",
        "voc/a.png",
        "voc/b.png",
        "yolo/classes.txt",
        "yolo/data.yaml",
        "yolo/images/train/a.png",
        "yolo/images/train/b.jpg",
        "yolo/labels/train/a.txt",
        "yolo/labels/train/b.txt",
    ]
    first = read_label(out / "voc" / "a.png")
    assert set(np.unique(first)) == {0, 1, 3}
    assert np.array_equal(first, label(lively_bundle, images / "a.png", "red", "blue"))
    second = read_label(out / "voc" / "b.png")
    assert set(np.unique(second)) == {0, 1}

    summary = json.loads((out / "summary" / "a.json").read_text())
    assert summary["image"] == "a.png"
    assert summary["classes"]["blue"]["pixels"] == np.count_nonzero(first == 3)
    assert (out / "yolo" / "classes.txt").read_text().split() == ["red", "green", "blue"]
    yolo = (out / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()
    assert {line.split()[0] for line in yolo} == {"0", "2"}
    coco = json.loads((out / "coco-rle" / "annotations" / "instances_default.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.jpg"]
    red = [a for a in coco["annotations"] if (a["image_id"], a["category_id"]) == (1, 1)]
    assert sum(a["area"] for a in red) == np.count_nonzero(first == 1)
    labelme = json.loads((out / "labelme" / "a.json").read_text())
    assert {shape["label"] for shape in labelme["shapes"]} == {"red", "blue"}
    with Image.open(out / "overlays" / "b.jpg") as image:
        assert image.size == SIZE[::-1]


def test_voc_is_the_default(images: Path, out: Path, lively_bundle: Path) -> None:
    """Classes are predicted where no image-level labels are given."""
    result = run("label", images / "a.png", "--bundle", lively_bundle, "--out", out)
    assert result.exit_code == 0
    assert files_in(out) == ["classes.txt", "summary/a.json", "voc/a.png"]
    assert "holds random weights" in result.stderr


def test_options_reach_their_stage(
    images: Path, out: Path, lively_bundle: Path, known: Path
) -> None:
    arguments = ["label", images / "a.png", "--bundle", lively_bundle, "--image-labels", known]
    options = ["--method", "max_iou", "--background-score", 0.4, "--prompts", "grid"]
    options += ["--min-trust", 0]
    assert run(*arguments, "--out", out, *options, "--points-per-side", 3).exit_code == 0
    expected = label(
        lively_bundle,
        images / "a.png",
        "red",
        "blue",
        cam=CamSettings(background_score=0.4),
        refinement=RefineSettings("max_iou"),
        generator={"points_per_side": 3, "prompts": "grid"},
    )
    assert np.array_equal(read_label(out / "voc" / "a.png"), expected)


def test_json_summary(images: Path, out: Path, lively_bundle: Path) -> None:
    (images / "c.png").write_bytes(b"")
    result = run("label", images, "--bundle", lively_bundle, "--out", out, "--json", "-q")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["done"] == [str(images / "a.png"), str(images / "b.jpg")]
    assert list(summary["failed"]) == [str(images / "c.png")]


def test_broken_and_unlisted_images_are_reported(
    images: Path, out: Path, lively_bundle: Path, known: Path
) -> None:
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out, "--image-labels", known]
    write_image(images / "c.png")
    result = run(*arguments, "--format", "voc,coco,yolo")
    assert "c.png: c is not in the image-level labels" in failed(result, 1)
    (images / "c.png").write_bytes(b"broken")
    assert "not a readable image" in failed(run(*arguments, "--format", "coco"), 1)
    assert not [name for name in files_in(out) if "c." in name.rpartition("/")[2][:2]]
    coco = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.jpg"]


def test_resume(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["--bundle", lively_bundle, "--out", out, "--format", "coco", "--resume"]
    assert run("label", images / "a.png", *arguments).exit_code == 0
    before = (out / "voc" / "a.png").stat().st_mtime_ns
    result = run("label", images, *arguments)
    assert "1 done, 1 skipped" in result.stderr
    assert (out / "voc" / "a.png").stat().st_mtime_ns == before
    coco = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.jpg"]


def test_resume_writes_a_format_that_was_not_asked_for_before(
    images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out, "--resume"]
    assert run(*arguments).exit_code == 0
    result = run(*arguments, "--format", "voc,labelme,yolo", "--overlay")
    assert "2 done" in result.stderr
    assert {"labelme/a.json", "yolo/labels/train/b.txt", "overlays/a.jpg"} <= set(files_in(out))


def test_other_settings_of_a_format_make_its_files_anew(
    images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out, "--format"]
    assert run(*arguments, "yolo,labelme").exit_code == 0
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    result = run(*arguments, "yolo,labelme", "--split", 1)
    assert "2 done" in result.stderr, result.output
    # What was to train on is gone, and nothing else was made again
    assert {name for name in files_in(out) if name.startswith("yolo")} == {
        "yolo/classes.txt",
        "yolo/data.yaml",
        *(f"yolo/{name}" for name in ("images/val/a.png", "images/val/b.jpg")),
        *(f"yolo/labels/val/{name}.txt" for name in "ab"),
    }
    kept = [name for name in before if not name.startswith("yolo")]
    assert len(kept) == 7
    assert all((out / name).stat().st_mtime_ns == before[name] for name in kept)
    assert "2 skipped" in run(*arguments, "yolo", "--split", 1).stderr
    assert "train: images/val\nval: images/val\n" in (out / "yolo" / "data.yaml").read_text()


def test_resume_after_an_interruption(images: Path, out: Path, lively_bundle: Path) -> None:
    """A image whose summary is missing was not finished."""
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out]
    assert run(*arguments).exit_code == 0
    (out / "summary" / "a.json").unlink()
    assert "1 done, 1 skipped" in run(*arguments, "--resume").stderr


@pytest.mark.parametrize("formats", ["gif", "voc,gif", "", ","])
def test_unknown_format(formats: str, images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out]
    message = failed(run(*arguments, "--format", formats), 2)
    known = ", ".join(LABEL_FORMATS)
    assert message == f"Invalid value for '--format': {formats!r}, expected one or more of {known}"
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--background-score", 2, "'--background-score': 2.0 is not in the range 0<=x<=1."),
        ("--presence-threshold", -1, "'--presence-threshold': -1.0 is not in the range 0<=x<=1."),
        ("--background-score", "nan", "background_score is nan, expected a number from 0 to 1"),
        ("--crop-overlap-ratio", 3, "'--crop-overlap-ratio': 3.0 is not in the range 0<=x<=1."),
    ],
)
def test_settings_out_of_range(
    option: str, value: object, message: str, images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out, option, value]
    assert message in failed(run(*arguments), 2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,labels\na.png,purple\n", "unknown class 'purple', known are red, green, blue"),
        ("image,labels\na.png,gren\n", "did you mean green?"),
        ("nothing", "no header"),
    ],
)
def test_image_labels_that_do_not_fit(
    text: str, message: str, images: Path, known: Path, out: Path, lively_bundle: Path
) -> None:
    known.write_text(text)
    arguments = ["label", images, "--bundle", lively_bundle, "--out", out]
    assert message in failed(run(*arguments, "--image-labels", known), 2)
    assert not out.exists()


def test_bundle_without_a_classifier(
    images: Path, out: Path, tmp_path: Path, lively_bundle: Path
) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(lively_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["cam"], manifest["graphs"]["cam"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    message = failed(run("label", images, "--bundle", bundle, "--out", out), 2)
    assert "holds no CAM classifier; add it with export cam" in message


def test_two_images_of_one_name(images: Path, out: Path, lively_bundle: Path) -> None:
    write_image(images / "a.jpg")
    message = failed(run("label", images, "--bundle", lively_bundle, "--out", out), 2)
    assert "would both be written as a" in message


def test_output_folder_that_cannot_be_made(images: Path, out: Path, lively_bundle: Path) -> None:
    out.write_bytes(b"mine")
    arguments = ["label", images, "--bundle", lively_bundle, "--out"]
    assert "is a file" in failed(run(*arguments, out), 2)
    assert "cannot be written" in failed(run(*arguments, out / "sub"), 1)
    assert out.read_bytes() == b"mine"
