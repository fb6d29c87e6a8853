"""`samrefine refine`, with a bundle and with stored masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.formats.coco import MASK_CLASSES, open_coco
from samrefine_runtime.formats.mask_folder import write_mask_folder
from samrefine_runtime.formats.records import write_masks
from samrefine_runtime.image import read_image
from samrefine_runtime.labels import PALETTE, read_label, write_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.sam.generator import MaskGenerator
from tests.command import failed, files_in, run, write_image
from tests.samples import ONE_THREAD, VOC, needs_voc
from tests.sepl import Stack, made_up_masks, naive_sepl

SIZE = (40, 56)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Pseudo labels a.png and b.png."""
    folder = tmp_path / "labels"
    label = np.zeros(SIZE, np.uint8)
    label[6:20, 6:20], label[22:36, 30:50], label[0] = 1, 15, 255
    write_label(folder / "a.png", label)
    write_label(folder / "b.png", label[::-1].copy())
    return folder


@pytest.fixture
def images(tmp_path: Path, labels: Path) -> Path:
    for seed, label in enumerate(sorted(labels.glob("*.png"))):
        write_image(tmp_path / "images" / f"{label.stem}.jpg", seed, SIZE)
    return tmp_path / "images"


def stacks(labels: Path, count: int = 9) -> dict[str, Stack]:
    return {
        path.stem: made_up_masks(read_label(path), count, seed)
        for seed, path in enumerate(sorted(labels.glob("*.png")))
    }


def write_reference_layout(folder: Path, stack: Stack) -> None:
    """0/255 PNG files, as SAM_WSSS reads them; written without this package."""
    folder.mkdir(parents=True)
    for index, mask in enumerate(stack):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{index}.png")


def store(kind: str, folder: Path, found: dict[str, Stack]) -> Path:
    masks = {name: Masks.from_dense(stack.shape[1:], stack) for name, stack in found.items()}
    if kind == "coco":
        with open_coco(folder / "instances.json", MASK_CLASSES) as coco:
            for name, of_image in masks.items():
                coco.add_masks(f"{name}.jpg", of_image)
    for name, stack in found.items():
        if kind == "reference":
            write_reference_layout(folder / name, stack)
        elif kind == "png":
            write_mask_folder(folder / name, masks[name])
        elif kind == "records":
            write_masks(folder / f"{name}.json", masks[name])
        elif kind == "plain":
            (folder).mkdir(exist_ok=True)
            records = masks[name].to_records("uncompressed_rle")
            plain = [{"segmentation": record["segmentation"]} for record in records]
            (folder / f"{name}.json").write_text(json.dumps(plain))
    return folder


def outputs(*names: str) -> list[str]:
    """Files of a run without further formats."""
    each = [f"{folder}/{name}" for name in names for folder in ("summary", "voc")]
    suffixes = {"summary": ".json", "voc": ".png"}
    return sorted(["classes.txt", *(at + suffixes[at.partition("/")[0]] for at in each)])


def assert_refined(
    out: Path, labels: Path, found: dict[str, Stack], method: str = "max_iou_imp2"
) -> None:
    assert files_in(out) == outputs(*found)
    for name, stack in found.items():
        expected = naive_sepl(read_label(labels / f"{name}.png"), stack, method)
        assert np.array_equal(read_label(out / "voc" / f"{name}.png"), expected), name


@pytest.mark.parametrize("kind", ["reference", "png", "records", "plain", "coco"])
def test_stored_masks(kind: str, labels: Path, out: Path, tmp_path: Path) -> None:
    found = stacks(labels)
    masks = store(kind, tmp_path / "masks", found)
    result = run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out)
    assert result.exit_code == 0, result.output
    assert "2 done" in result.stderr
    assert_refined(out, labels, found)


def test_a_coco_file_by_its_own_name(labels: Path, out: Path, tmp_path: Path) -> None:
    found = stacks(labels)
    masks = store("coco", tmp_path / "masks", found) / "instances.json"
    arguments = ["refine", "--pseudo-labels", labels, "--out", out, "--masks"]
    assert run(*arguments, masks).exit_code == 0
    assert_refined(out, labels, found)
    masks.write_text("{}")
    message = failed(run(*arguments, masks), 2)
    assert "not COCO JSON" in message and "expected a folder of masks, or a COCO file" in message


def test_masks_given_as_pseudo_labels(labels: Path, out: Path, tmp_path: Path) -> None:
    """Their white pixels would all be no class, and every label background."""
    masks = store("records", tmp_path / "masks", stacks(labels))
    for path in labels.glob("*.png"):
        Image.fromarray((read_label(path) > 0) * np.uint8(255)).save(path)
    result = run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out)
    assert result.exit_code == 1
    assert result.stderr.count("values are 0 and 255 only, as in a mask") == 2


def test_hidden_files_are_no_labels(labels: Path, out: Path, tmp_path: Path) -> None:
    found = stacks(labels)
    masks = store("records", tmp_path / "masks", found)
    (labels / "._a.png").write_bytes(b"what macOS leaves on other disks")
    assert run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out).exit_code == 0
    assert_refined(out, labels, found)


@needs_voc
def test_all_voc_labels_with_masks_in_the_references_layout(tmp_path: Path) -> None:
    labels, masks, out = VOC / "transcam", tmp_path / "masks", tmp_path / "out"
    found = stacks(labels, 5)
    assert len(found) == 150
    store("reference", masks, found)
    result = run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out, "-q")
    assert result.exit_code == 0, result.output
    assert_refined(out, labels, found)


@needs_voc
def test_all_voc_labels_with_masks_as_records(tmp_path: Path) -> None:
    labels, masks, out = VOC / "transcam", tmp_path / "masks", tmp_path / "out"
    found = stacks(labels, 10)
    store("records", masks, found)
    result = run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out, "-q")
    assert result.exit_code == 0, result.output
    assert_refined(out, labels, found)


def test_output_is_a_voc_png(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    run("refine", "--pseudo-labels", labels, "--masks", masks, "--out", out)
    with Image.open(out / "voc" / "a.png") as image:
        assert image.mode == "P"
        palette = image.getpalette()
    assert palette is not None
    assert palette[: 21 * 3] == PALETTE[:21].reshape(-1).tolist()


@pytest.mark.parametrize("method", ["max_iou", "max_iou_imp", "argmax"])
def test_methods(method: str, labels: Path, out: Path, tmp_path: Path) -> None:
    found = stacks(labels)
    masks = store("records", tmp_path / "masks", found)
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert run(*arguments, "--method", method).exit_code == 0
    assert_refined(out, labels, found, method)


def test_thresholds(labels: Path, out: Path, tmp_path: Path) -> None:
    found = stacks(labels)
    masks = store("records", tmp_path / "masks", found)
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    options = ["--min-inside", 0.2, "--min-cover", 0.4, "--max-area-ratio", 2]
    assert run(*arguments, *options).exit_code == 0
    for name, stack in found.items():
        expected = naive_sepl(
            read_label(labels / f"{name}.png"),
            stack,
            min_inside=0.2,
            min_cover=0.4,
            max_area_ratio=2,
        )
        assert np.array_equal(read_label(out / "voc" / f"{name}.png"), expected)


def generated(bundle: Path, images: Path) -> dict[str, NDArray[np.bool_]]:
    generator = MaskGenerator(Bundle.load(bundle), session=ONE_THREAD)
    found = {}
    for image in sorted(images.iterdir()):
        masks = generator.generate(read_image(image))
        assert len(masks) > 0
        found[image.stem] = np.array([masks.dense(i) for i in range(len(masks))])
    return found


def test_with_a_bundle(labels: Path, images: Path, out: Path, lively_bundle: Path) -> None:
    arguments = ["refine", "--pseudo-labels", labels, "--images", images, "--out", out]
    options = ["--threads", 1, "--prompts", "grid", "--min-trust", 0, "--num-classes", 21]
    result = run(*arguments, "--bundle", lively_bundle, *options)
    assert result.exit_code == 0, result.output
    assert "holds random weights" in result.stderr
    assert_refined(out, labels, generated(lively_bundle, images))


def test_both_ways_give_the_same(
    labels: Path, images: Path, out: Path, tmp_path: Path, lively_bundle: Path
) -> None:
    """`masks` then `refine --masks`, and `refine --bundle` at once."""
    masks = tmp_path / "masks"
    assert run("masks", images, "--bundle", lively_bundle, "--out", masks).exit_code == 0
    pseudo = ["refine", "--pseudo-labels", labels, "--min-trust", 0, "--num-classes", 21]
    run(*pseudo, "--masks", masks, "--out", out / "a")
    source = ["--images", images, "--bundle", lively_bundle, "--prompts", "grid"]
    run(*pseudo, *source, "--out", out / "b")
    for name in ("a.png", "b.png"):
        assert (out / "a" / "voc" / name).read_bytes() == (out / "b" / "voc" / name).read_bytes()


def test_masks_that_are_not_trusted_leave_the_labels(
    labels: Path, images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["refine", "--pseudo-labels", labels, "--images", images]
    source = ["--bundle", lively_bundle, "--prompts", "grid", "--num-classes", 21]
    assert run(*arguments, *source, "--out", out, "--min-trust", 1).exit_code == 0
    for path in sorted(labels.iterdir()):
        label = read_label(path)
        assert np.array_equal(read_label(out / "voc" / path.name), np.where(label == 255, 0, label))


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--images"],
        ["--bundle"],
        ["--masks", "--bundle"],
        ["--masks", "--images", "--bundle"],
    ],
    ids=" ".join,
)
def test_neither_or_both_sources(
    given: list[str], labels: Path, images: Path, out: Path, lively_bundle: Path
) -> None:
    values = {"--images": images, "--bundle": lively_bundle, "--masks": images}
    options = [word for name in given for word in (name, values[name])]
    message = failed(run("refine", "--pseudo-labels", labels, *options, "--out", out), 2)
    assert message == "give either --images with --bundle, or --masks"
    assert not out.exists()


def test_labels_that_do_not_fit_are_reported(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    for name in ("class", "size", "text", "void"):
        (masks / f"{name}.json").write_bytes((masks / "a.json").read_bytes())
    write_label(labels / "class.png", np.full(SIZE, 21, np.uint8))
    write_label(labels / "size.png", np.zeros((9, 9), np.uint8))
    write_label(labels / "void.png", np.full(SIZE, 255, np.uint8))
    write_label(labels / "nomasks.png", np.zeros(SIZE, np.uint8))
    (labels / "text.png").write_text("not a picture")
    result = run(
        "refine", "--pseudo-labels", labels, "--masks", masks, "--out", out, "--json", "-q"
    )
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert [Path(name).name for name in summary["done"]] == ["a.png", "b.png", "void.png"]
    failures = {Path(name).stem: message for name, message in summary["failed"].items()}
    assert set(failures) == {"class", "size", "text", "nomasks"}
    assert "class 21, expected 0 to 20 or 255" in failures["class"]
    assert "expected (9, 9)" in failures["size"]
    assert "not a readable label image" in failures["text"]
    assert "no masks of nomasks" in failures["nomasks"]
    assert files_in(out) == sorted(["failures.jsonl", *outputs("a", "b", "void")])
    assert not read_label(out / "voc" / "void.png").any()


def test_more_classes_than_voc(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    write_label(labels / "a.png", np.full(SIZE, 80, np.uint8))
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert "class 80" in failed(run(*arguments), 1)
    assert run(*arguments, "--num-classes", 81).exit_code == 0


def test_label_of_another_size_than_its_image(
    labels: Path, images: Path, out: Path, lively_bundle: Path
) -> None:
    write_image(images / "b.jpg", 5, (60, 44))
    arguments = ["refine", "--pseudo-labels", labels, "--images", images, "--out", out]
    arguments += ["--num-classes", 21]
    message = failed(run(*arguments, "--bundle", lively_bundle), 1)
    assert f"label is 56 x 40 pixels, its image {images / 'b.jpg'} is 44 x 60" in message
    assert files_in(out) == sorted(["failures.jsonl", *outputs("a")])


def test_image_that_is_missing_or_broken(
    labels: Path, images: Path, out: Path, lively_bundle: Path
) -> None:
    arguments = ["refine", "--pseudo-labels", labels, "--images", images, "--out", out]
    arguments += ["--num-classes", 21]
    (images / "a.jpg").write_bytes(b"")
    assert "not a readable image" in failed(run(*arguments, "--bundle", lively_bundle), 1)
    (images / "a.jpg").unlink()
    assert "no image of this id" in failed(run(*arguments, "--bundle", lively_bundle), 1)
    assert files_in(out) == sorted(["failures.jsonl", *outputs("b")])


def test_damaged_masks_are_reported(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    (masks / "a.json").write_bytes((masks / "a.json").read_bytes()[:100])
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert "a.json" in failed(run(*arguments), 1)
    assert files_in(out) == sorted(["failures.jsonl", *outputs("b")])


def test_no_labels(tmp_path: Path, out: Path) -> None:
    message = failed(
        run("refine", "--pseudo-labels", tmp_path, "--masks", tmp_path, "--out", out), 2
    )
    assert f"no .png labels in {tmp_path}" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-inside", 2], "'--min-inside': 2.0 is not in the range 0<=x<=1."),
        (["--min-cover", -1], "'--min-cover': -1.0 is not in the range 0<=x<=1."),
        (["--max-area-ratio", 0], "'--max-area-ratio': 0.0 is not in the range 0<x<=1000000000."),
        (["--min-inside", "nan"], "min_inside is nan, expected a number from 0 to 1"),
        (["--num-classes", 0], "'--num-classes': 0 is not in the range 2<=x<=255."),
    ],
    ids=str,
)
def test_settings_out_of_range(
    options: list[object], message: str, labels: Path, out: Path
) -> None:
    arguments = ["refine", "--pseudo-labels", labels, "--masks", labels, "--out", out]
    assert message in failed(run(*arguments, *options), 2)
    assert not out.exists()


def test_resume(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert run(*arguments).exit_code == 0
    (out / "voc" / "a.png").unlink()
    before = (out / "voc" / "b.png").stat().st_mtime_ns
    assert "1 done, 1 skipped" in run(*arguments, "--resume").stderr
    assert (out / "voc" / "b.png").stat().st_mtime_ns == before
    assert "2 done" in run(*arguments, "--overwrite").stderr


def test_output_folder_that_cannot_be_made(labels: Path, out: Path, tmp_path: Path) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    out.write_bytes(b"mine")
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out"]
    assert "is a file" in failed(run(*arguments, out), 2)
    assert "cannot be written" in failed(run(*arguments, out / "sub"), 1)
    assert out.read_bytes() == b"mine"


def test_guided_prompts_find_no_mask_beside_the_label(
    labels: Path, images: Path, out: Path, lively_bundle: Path
) -> None:
    """With nothing labelled there is nothing to prompt for."""
    for path in labels.glob("*.png"):
        write_label(path, np.zeros_like(read_label(path)))
    arguments = ["refine", "--pseudo-labels", labels, "--images", images, "--out", out]
    assert run(*arguments, "--bundle", lively_bundle, "--prompts", "guided").exit_code == 0
    assert not read_label(out / "voc" / "a.png").any()


EVERYTHING = ["--format", "coco,labelme,yolo", "--overlay", "--report"]


def test_every_output_of_label(labels: Path, images: Path, out: Path, lively_bundle: Path) -> None:
    for path in labels.iterdir():
        write_label(path, np.where(read_label(path) == 15, np.uint8(3), read_label(path)))
    truth = labels.parent / "truth"
    for path in labels.iterdir():
        write_label(truth / path.name, read_label(path))
    arguments = ["refine", "--pseudo-labels", labels, "--images", images, "--out", out]
    arguments += ["--bundle", lively_bundle, "--threads", 1]
    result = run(*arguments, *EVERYTHING, "--ground-truth", truth)
    assert result.exit_code == 0, result.output
    assert "classes: 3, as the bundle's (red, green, blue); --classes says otherwise" in (
        result.stderr
    )
    assert set(outputs("a", "b")) | {
        "coco/annotations/instances_default.json",
        *(f"{folder}.{suffix}" for name in "ab" for folder, suffix in (
            (f"labelme/{name}", "json"), (f"overlays/{name}", "jpg"), (f"report/{name}", "json"),
            (f"yolo/labels/train/{name}", "txt"),
        )),
        "report.html",
    } <= set(files_in(out))  # fmt: skip
    assert (out / "classes.txt").read_text() == "background\nred\ngreen\nblue\n"
    summary = json.loads((out / "summary" / "a.json").read_text())
    assert summary["image"] == "a.jpg" and set(summary["classes"]) == {"red", "blue"}
    assert set(summary["seconds"]) == {"masks", "refine"}
    entry = json.loads((out / "report" / "a.json").read_text())
    assert set(entry["maps"]) == {"masks", "pseudo_label", "label", "ground_truth"}
    coco = json.loads((out / "coco" / "annotations" / "instances_default.json").read_text())
    assert [each["file_name"] for each in coco["images"]] == ["a.jpg", "b.jpg"]
    assert [each["name"] for each in coco["categories"]] == ["red", "green", "blue"]
    # Asked for later, they are written from the labels that are there
    later = out.parent / "later"
    arguments[6] = later
    assert run(*arguments).exit_code == 0
    assert "2 done" in run(*arguments, *EVERYTHING).stderr
    assert "2 skipped" in run(*arguments, *EVERYTHING).stderr
    for at in (
        "voc/a.png",
        "coco/annotations/instances_default.json",
        "yolo/labels/train/b.txt",
        "overlays/a.jpg",
    ):
        assert (later / at).read_bytes() == (out / at).read_bytes()


def test_stored_masks_with_images_to_draw_on(
    labels: Path, images: Path, out: Path, tmp_path: Path
) -> None:
    found = stacks(labels)
    masks = store("records", tmp_path / "masks", found)
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert run(*arguments, "--images", images, *EVERYTHING).exit_code == 0
    assert {"overlays/a.jpg", "report.html", "labelme/b.json"} <= set(files_in(out))
    (images / "a.jpg").unlink()
    assert "no image of this id" in failed(run(*arguments, "--images", images), 1)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (["--overlay"], "--overlay"),
        (["--report", "--overlay"], "--overlay, --report"),
        (["--format", "voc,coco,labelme"], "--format coco, --format labelme"),
    ],
    ids=str,
)
def test_what_needs_images_says_so(
    options: list[str], needs: str, labels: Path, out: Path, tmp_path: Path
) -> None:
    masks = store("records", tmp_path / "masks", stacks(labels))
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert failed(run(*arguments, *options), 2) == f"{needs} needs --images"
    assert not out.exists()


def test_other_names_are_another_run(labels: Path, images: Path, out: Path, tmp_path: Path) -> None:
    """Files of single images hold names too."""
    masks = store("records", tmp_path / "masks", stacks(labels))
    names = [f"name {number}" for number in range(15)]
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    arguments += ["--images", images, "--format", "labelme", "--classes"]
    assert run(*arguments, ",".join(names)).exit_code == 0
    names[14] = "cat"
    assert "--overwrite" in failed(run(*arguments, ",".join(names)), 2)
    assert run(*arguments, ",".join(names), "--overwrite").exit_code == 0
    assert '"label": "cat"' in (out / "labelme" / "a.json").read_text()
    assert (out / "classes.txt").read_text().splitlines()[15] == "cat"


def test_names_beside_the_pseudo_labels(
    images: Path, out: Path, tmp_path: Path, lively_bundle: Path
) -> None:
    """What `label` writes is refined, and evaluated, under its own names."""
    common = ["--bundle", lively_bundle, "--threads", 1]
    assert run("label", images, *common, "--out", tmp_path / "first").exit_code == 0
    first = tmp_path / "first" / "voc"
    source = ["refine", "--pseudo-labels", first, "--images", images, *common, "--out", out]
    assert run(*source).exit_code == 0
    assert (out / "classes.txt").read_text() == (first.parent / "classes.txt").read_text()
    table = run("evaluate", out / "voc", first).stdout
    # An output folder stands for the labels in it
    assert run("evaluate", out, first.parent).stdout == table
    source[2] = first.parent
    assert "2 skipped" in run(*source).stderr
    assert [line.split()[0] for line in table.splitlines()[1:5]] == [
        "background", "red", "green", "blue",
    ]  # fmt: skip


def test_an_output_folder_of_an_earlier_release(labels: Path, out: Path, tmp_path: Path) -> None:
    """Labels lay in the folder itself; they move."""
    found = stacks(labels)
    masks = store("records", tmp_path / "masks", found)
    arguments = ["refine", "--pseudo-labels", labels, "--masks", masks, "--out", out]
    assert run(*arguments).exit_code == 0
    journal = out / ".samrefine" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    entries = [line for line in lines if str(line.get("task", "")).startswith("image/")]
    for entry in entries:
        name = entry["task"].removeprefix("image/")
        (out / "voc" / f"{name}.png").rename(out / f"{name}.png")
        entry["outputs"] = {f"{name}.png": entry["outputs"][f"voc/{name}.png"]}
        entry["kinds"] = ["voc"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in (lines[0], *entries)))
    hidden = [f".samrefine/objects/{name}.json" for name in "ab"]
    for at in ("classes.txt", "summary/a.json", "summary/b.json", *hidden):
        (out / at).unlink()
    assert "2 done" in run(*arguments).stderr
    assert_refined(out, labels, found)
