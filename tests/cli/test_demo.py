"""`samrefine demo` and `samrefine label --report`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import samrefine_rt.demo
from samrefine_export.demo.pictures import SIZES, write_demo_images
from samrefine_export.demo.scenes import CLASSES as SCENE_CLASSES
from samrefine_export.demo.scenes import make_scene
from samrefine_rt.cli import main
from samrefine_rt.demo import IMAGES, demo_images
from samrefine_runtime.bundle import EMBEDDED, Bundle
from samrefine_runtime.evaluate import evaluate
from samrefine_runtime.image import read_image
from samrefine_runtime.labels import read_label, write_label

needs_demo = pytest.mark.skipif(
    not (EMBEDDED["demo"].is_dir() and IMAGES.is_dir()),
    reason="the embedded demo bundle or its images are not in this checkout",
)

FEW_POINTS = ["--points-per-side", "3"]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def page_data(out: Path, name: str) -> Any:
    page = (out / "report.html").read_text()
    found = re.search(rf'id="{name}">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found.group(1))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of coloured squares on gray, with ground truth and image-level labels."""
    folder = tmp_path_factory.mktemp("images")
    rows = ["image,labels"]
    for index, name in enumerate(("red", "green", "blue")):
        image = np.full((72, 96, 3), 90, np.uint8)
        image[20:50, 20:60, index] = 240
        label = np.zeros(image.shape[:2], np.uint8)
        label[20:50, 20:60] = index + 1
        Image.fromarray(image).save(folder / f"{name}.jpg", quality=95)
        write_label(folder / f"{name}.png", label)
        rows.append(f"{name},{name}")
    (folder / "image_labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch, small_bundle: Path, images: Path) -> None:
    """The demo on the small bundle and the coloured squares."""
    monkeypatch.setitem(EMBEDDED, "demo", small_bundle)  # type: ignore[arg-type]
    monkeypatch.setattr(samrefine_rt.demo, "IMAGES", images)


@pytest.mark.usefixtures("small_demo")
def test_demo_writes_labels_and_report(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out"
    result = invoke("demo", "--out", out, "--threads", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["image", "CAM", "mIoU", "refined", "mIoU", "masks", "seconds"]
    assert [line.split()[0] for line in lines[1:5]] == ["blue", "green", "red", "all"]
    assert str(out / "report.html") in result.stdout
    assert {path.name for path in (out / "voc").iterdir()} == {"blue.png", "green.png", "red.png"}
    measured = evaluate(out / "voc", _ground_truth(images, tmp_path), 4)
    assert lines[4].split()[2] == f"{100 * measured.miou:.1f}"
    assert f"<dd>{100 * measured.miou:.1f}<small>" in (out / "report.html").read_text()


def _ground_truth(images: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "truth"
    folder.mkdir()
    for path in images.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.usefixtures("small_demo")
def test_demo_as_json(tmp_path: Path) -> None:
    result = invoke("demo", "--out", tmp_path, "--json", "-q")
    figures = json.loads(result.stdout)
    assert figures["done"] == ["blue", "green", "red"]
    assert figures["failed"] == {}
    assert figures["images"].keys() == {"blue", "green", "red"}
    assert figures["overall"]["cam_miou"] > 0.8
    assert figures["overall"].keys() == {"cam_miou", "refined_miou", "masks", "seconds"}


@pytest.mark.usefixtures("small_demo")
def test_quiet_demo_says_nothing(tmp_path: Path) -> None:
    assert invoke("demo", "--out", tmp_path, "-q").stdout == ""


def test_build_without_demo_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EMBEDDED, "demo", tmp_path / "nothing")  # type: ignore[arg-type]
    result = invoke("demo", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "nothing does not exist or is not a folder" in result.stderr
    assert not (tmp_path / "out").exists()


def test_write_demo_images(tmp_path: Path) -> None:
    seeds = {"one": 10_000_001, "two": 10_000_002}
    write_demo_images(tmp_path / "images", seeds)
    found = demo_images(SCENE_CLASSES, tmp_path / "images")
    assert [each.path.stem for each in found] == ["one", "two"]
    for each, (seed, size) in zip(found, zip(seeds.values(), SIZES, strict=False), strict=True):
        scene = make_scene(seed, size)
        assert np.array_equal(each.ground_truth(), scene.label)
        assert np.array_equal(each.image_labels, scene.image_labels)
        assert np.abs(each.read().astype(int) - scene.image).mean() < 8
    assert all(height != width for height, width in SIZES)


@pytest.mark.parametrize("known", [True, False])
def test_label_report(small_bundle: Path, images: Path, tmp_path: Path, known: bool) -> None:
    truth = ["--ground-truth", images] if known else []
    result = invoke(
        "label", *sorted(images.glob("*.jpg")), "--bundle", small_bundle, "--out", tmp_path,
        "--report", *truth, *FEW_POINTS,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    index = page_data(tmp_path, "report")
    assert len(index["images"]) == 3
    assert all((row["after"] is not None) == known for row in index["images"])
    changes = [row["changed"] for row in index["images"]]
    assert changes == sorted(changes, reverse=True)
    assert "image-2" in (tmp_path / "report.html").read_text()


def test_resumed_report_shows_images_of_earlier_runs(
    small_bundle: Path, images: Path, tmp_path: Path
) -> None:
    common = ["--bundle", small_bundle, "--out", tmp_path, "--resume", *FEW_POINTS]
    invoke("label", images / "red.jpg", *common)
    invoke("label", images / "green.jpg", *common, "--report")
    result = invoke("label", *sorted(images.glob("*.jpg")), *common, "--report")
    assert result.exit_code == 0, result.output
    ids = [row["id"] for row in page_data(tmp_path, "report")["images"]]
    assert sorted(ids) == ["blue", "green", "red"]
    assert ids[-1] == "red"
    assert page_data(tmp_path, "image-2")["maps"].keys() == {"label"}
    assert "cam" in page_data(tmp_path, "image-0")["maps"]


def test_new_label_drops_the_old_entry(small_bundle: Path, images: Path, tmp_path: Path) -> None:
    common = ["label", images / "red.jpg", "--bundle", small_bundle, "--out", tmp_path, *FEW_POINTS]
    invoke(*common, "--report")
    assert (tmp_path / "report" / "red.json").is_file()
    invoke(*common, "--overwrite")
    assert not (tmp_path / "report" / "red.json").exists()


def test_ground_truth_of_another_size_fails_that_image_alone(
    small_bundle: Path, images: Path, tmp_path: Path
) -> None:
    truth = tmp_path / "truth"
    write_label(truth / "red.png", np.zeros((5, 5), np.uint8))
    result = invoke(
        "label", images / "red.jpg", images / "green.jpg", "--bundle", small_bundle,
        "--out", tmp_path / "out", "--report", "--ground-truth", truth, *FEW_POINTS,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "ground truth is 5 x 5 pixels" in result.stderr
    assert [row["id"] for row in page_data(tmp_path / "out", "report")["images"]] == ["green"]


def test_ground_truth_wants_a_report(small_bundle: Path, images: Path, tmp_path: Path) -> None:
    result = invoke(
        "label", images, "--bundle", small_bundle, "--out", tmp_path, "--ground-truth", images
    )
    assert result.exit_code == 2
    assert "--report" in result.output


@needs_demo
def test_embedded_images_fit_the_embedded_bundle() -> None:
    classes = Bundle.load("demo").require_cam().classes
    found = demo_images(classes)
    assert len(found) == 6
    for each in found:
        image, truth = read_image(each.path), read_label(each.path.with_suffix(".png"))
        assert image.shape[:2] == truth.shape
        present = np.bincount(truth.reshape(-1), minlength=256)[1 : len(classes) + 1] > 0
        assert np.array_equal(present, each.image_labels)


@needs_demo
def test_embedded_demo_gains_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from samrefine_rt.cli import main; main(['demo', '--out', {str(tmp_path)!r}, '--json'])"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - start < 120
    overall = json.loads(done.stdout)["overall"]
    assert overall["refined_miou"] > overall["cam_miou"] + 0.1
