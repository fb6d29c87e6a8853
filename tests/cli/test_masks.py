"""`samrefine masks`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.formats.coco import open_coco_file
from samrefine_runtime.formats.mask_folder import read_mask_folder
from samrefine_runtime.formats.records import read_masks
from samrefine_runtime.image import read_image
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import failed, files_in, run, write_image
from tests.samples import ONE_THREAD


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_image(folder / "a.png", 1)
    write_image(folder / "b.jpg", 2, (56, 40 + 20))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def expected_masks(bundle: Path, image: Path) -> Masks:
    masks = MaskGenerator(Bundle.load(bundle), session=ONE_THREAD).generate(read_image(image))
    assert len(masks) >= 5
    return masks


def assert_same(actual: Masks, expected: Masks) -> None:
    assert actual.image_shape == expected.image_shape
    assert len(actual) == len(expected)
    assert np.array_equal(actual.counts, expected.counts)


def test_records(images: Path, out: Path, lively_bundle: Path) -> None:
    result = run("masks", images, "--bundle", lively_bundle, "--out", out, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "2 done" in result.stderr
    assert files_in(out) == ["a.json", "b.json"]
    for image in (images / "a.png", images / "b.jpg"):
        expected = expected_masks(lively_bundle, image)
        stored = read_masks(out / f"{image.stem}.json")
        assert_same(stored, expected)
        assert np.array_equal(stored.predicted_iou, expected.predicted_iou)
        assert np.array_equal(stored.point_coords, expected.point_coords)


def test_png_folders(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["masks", images / "a.png", "--bundle", lively_bundle, "--out", out]
    assert run(*arguments, "--format", "png").exit_code == 0
    expected = expected_masks(lively_bundle, images / "a.png")
    assert_same(read_mask_folder(out / "a"), expected)
    assert len(files_in(out)) == len(expected) + 1
    with Image.open(out / "a" / "0000.png") as image:
        assert set(np.unique(np.asarray(image))) <= {0, 255}


def test_coco(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["masks", images, "--bundle", lively_bundle, "--out", out, "--format", "coco"]
    assert run(*arguments).exit_code == 0
    assert files_in(out) == ["instances.json"]
    content = json.loads((out / "instances.json").read_text())
    assert [entry["file_name"] for entry in content["images"]] == ["a.png", "b.jpg"]
    for image in (images / "a.png", images / "b.jpg"):
        stored = open_coco_file(out / "instances.json").read(image.stem)
        assert_same(stored, expected_masks(lively_bundle, image))


def test_overlay(images: Path, out: Path, lively_bundle: Path) -> None:
    assert run("masks", images, "--bundle", lively_bundle, "--out", out, "--overlay").exit_code == 0
    assert files_in(out) == ["a.json", "b.json", "overlays/a.jpg", "overlays/b.jpg"]
    with Image.open(out / "overlays" / "b.jpg") as image:
        assert image.size == (60, 56)


def test_options_override_the_bundles_defaults(
    images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["masks", images / "a.png", "--bundle", lively_bundle, "--out", out, "-q"]
    options = ["--points-per-side", 2, "--pred-iou-thresh", 0, "--stability-score-thresh", 0]
    assert run(*arguments, *options, "--points-per-batch", 3).exit_code == 0
    assert len(read_masks(out / "a.json")) == 3 * 4


def test_every_generator_option_is_heard(images: Path, out: Path, lively_bundle: Path) -> None:
    options = {
        "--points-per-side": 3,
        "--points-per-batch": 2,
        "--pred-iou-thresh": 0.1,
        "--stability-score-thresh": 0.2,
        "--stability-score-offset": 0.1,
        "--box-nms-thresh": 0.9,
        "--crop-n-layers": 1,
        "--crop-nms-thresh": 0.8,
        "--crop-overlap-ratio": 0.2,
        "--crop-n-points-downscale-factor": 2,
        "--min-mask-region-area": 4,
    }
    flat = [word for pair in options.items() for word in pair]
    image = images / "a.png"
    assert run("masks", image, "--bundle", lively_bundle, "--out", out, *flat).exit_code == 0
    settings = {name[2:].replace("-", "_"): value for name, value in options.items()}
    generator = MaskGenerator(Bundle.load(lively_bundle), **settings)  # type: ignore[arg-type]
    assert_same(read_masks(out / "a.json"), generator.generate(read_image(image)))


def test_json_summary(images: Path, out: Path, lively_bundle: Path) -> None:
    (images / "c.png").write_bytes(b"broken")
    result = run("masks", images, "--bundle", lively_bundle, "--out", out, "--json", "-q")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["done"] == [str(images / "a.png"), str(images / "b.jpg")]
    assert summary["skipped"] == []
    assert "not a readable image" in summary["failed"][str(images / "c.png")]
    assert summary["masks"]["a"] == len(read_masks(out / "a.json"))


def test_quiet(images: Path, out: Path, lively_bundle: Path) -> None:
    result = run("masks", images, "--bundle", lively_bundle, "--out", out, "-q")
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"Warning: {lively_bundle} holds random weights (seed 0); its output means nothing"
    ]


@pytest.mark.parametrize("form", ["records", "png", "coco"])
def test_a_broken_image_is_reported_and_the_rest_is_done(
    form: str, images: Path, out: Path, lively_bundle: Path
) -> None:
    (images / "aa.jpg").write_bytes((images / "b.jpg").read_bytes()[:300])
    for name in ("notes.txt", "._a.jpg"):
        (images / name).write_text("not an image, and not looked at")
    result = run("masks", images, "--bundle", lively_bundle, "--out", out, "--format", form)
    assert f"{images / 'aa.jpg'}: " in failed(result, 1)
    assert "2 done, 1 failed" in result.stderr
    done = {name.split("/")[0] for name in files_in(out)}
    expected = {"records": {"a.json", "b.json"}, "png": {"a", "b"}, "coco": {"instances.json"}}
    assert done == expected[form] | {"failures.jsonl"}


def test_what_is_no_file_is_said(images: Path, out: Path, lively_bundle: Path) -> None:
    (images / "c.jpg").symlink_to("gone.jpg")
    write_image(images / "d.jpg" / "f.png")
    (images / "e.jpg").symlink_to(images / "a.png")
    result = run("masks", images, "--bundle", lively_bundle, "--out", out)
    assert result.exit_code == 1
    assert "c.jpg: a link to gone.jpg, which does not exist" in result.stderr
    assert "4 done, 1 failed" in result.stderr
    assert (out / "d.jpg" / "f.json").is_file()


def test_images_given_by_name_may_be_anything(images: Path, out: Path, lively_bundle: Path) -> None:
    notes = images / "notes.txt"
    notes.write_text("text")
    result = run("masks", notes, images / "a.png", "--bundle", lively_bundle, "--out", out)
    assert "not a readable image" in failed(result, 1)
    assert files_in(out) == ["a.json", "failures.jsonl"]


def test_two_images_of_one_name(images: Path, out: Path, lively_bundle: Path) -> None:
    other = write_image(images.parent / "more" / "a.jpg")
    message = failed(run("masks", images, other, "--bundle", lively_bundle, "--out", out), 2)
    assert "a.png and " in message and "would both be written as a" in message
    assert not out.exists()


def test_the_same_image_twice_is_one(images: Path, out: Path, lively_bundle: Path) -> None:
    result = run("masks", images, images / "a.png", "--bundle", lively_bundle, "--out", out)
    assert result.exit_code == 0
    assert "2 done" in result.stderr


def test_folder_without_images(tmp_path: Path, out: Path, lively_bundle: Path) -> None:
    message = failed(run("masks", tmp_path, "--bundle", lively_bundle, "--out", out), 2)
    assert f"no images in {tmp_path} (expected .bmp, .jpeg" in message


@pytest.mark.parametrize("form", ["records", "png", "coco"])
def test_what_is_there_is_not_made_again(
    form: str, images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["--bundle", lively_bundle, "--out", out, "--format", form]
    assert run("masks", images / "a.png", *arguments).exit_code == 0
    resumed = run("masks", images, *arguments)
    assert resumed.exit_code == 0
    assert "1 done, 1 skipped" in resumed.stderr
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert "0 done, 2 skipped" in run("masks", images, *arguments).stderr
    again = run("masks", images, *arguments, "--overwrite")
    assert "2 done" in again.stderr
    # The COCO file is made of the same masks again, so it is not
    unchanged = {
        str(p.relative_to(out)) for p, time in before.items() if p.stat().st_mtime_ns == time
    }
    assert unchanged & {*files_in(out)} == ({"instances.json"} if form == "coco" else set())


def test_a_further_format_is_written_of_the_masks_that_are_there(
    images: Path, out: Path, lively_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["masks", images, "--bundle", lively_bundle, "--out", out, "--format"]
    assert run(*arguments, "png").exit_code == 0
    monkeypatch.setattr(MaskGenerator, "generate", lambda *_, **__: pytest.fail("ran again"))
    assert "2 done" in run(*arguments, "records,coco", "--overlay").stderr
    for name in ("a", "b"):
        assert_same(read_masks(out / f"{name}.json"), read_mask_folder(out / name))
    assert {"instances.json", "overlays/a.jpg"} <= set(files_in(out))


def test_output_folder_that_is_a_file(images: Path, out: Path, lively_bundle: Path) -> None:
    out.write_bytes(b"mine")
    message = failed(run("masks", images, "--bundle", lively_bundle, "--out", out), 2)
    assert "is a file" in message
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize("form", ["records", "png", "coco"])
def test_output_folder_that_cannot_be_made(
    form: str, images: Path, out: Path, lively_bundle: Path
) -> None:
    out.write_bytes(b"mine")
    arguments = ["--bundle", lively_bundle, "--out", out / "sub", "--format", form]
    assert "cannot be written (Not a directory)" in failed(run("masks", images, *arguments), 1)
    assert out.read_bytes() == b"mine"


def test_impossible_settings(images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["masks", images, "--bundle", lively_bundle, "--out", out]
    for options, message in (
        (
            ["--crop-n-layers", 3, "--crop-n-points-downscale-factor", 2],
            "the grid of crop layer 3 is (0, 2), expected points (N, 2)",
        ),
        (
            ["--stability-score-offset", -1],
            "'--stability-score-offset': -1.0 is not in the range 0<=x<=1000.",
        ),
        (["--crop-overlap-ratio", 7], "'--crop-overlap-ratio': 7.0 is not in the range 0<=x<=1."),
    ):
        assert message in failed(run(*arguments, *options), 2)
    assert not out.exists()


def test_cuda_that_is_not_there(images: Path, out: Path, lively_bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    arguments = ["--bundle", lively_bundle, "--out", out, "--backend", "cuda"]
    assert "no CUDAExecutionProvider" in failed(run("masks", images, *arguments), 2)


def test_trained_weights_give_no_warning(images: Path, out: Path, lively_bundle: Path) -> None:
    import shutil

    bundle = out.parent / "trained"
    shutil.copytree(lively_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["sam"]["random_weights"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "Warning" not in run("masks", images, "--bundle", bundle, "--out", out).stderr
