"""Every registered format does what a format must, and one more is one entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.errors import LabelError, MaskFileError, SettingsError
from samrefine_runtime.formats import (
    LABEL_FORMATS,
    MASK_FORMATS,
    LabelFormat,
    MaskFormat,
    check_stored_masks,
    find_stored_masks,
    read_stored_masks,
)
from samrefine_runtime.image import ImageShape
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.masks.masks import Masks

CLASSES = ("background", "cat", "dog")
LABEL = np.zeros((12, 16), np.uint8)
LABEL[2:8, 3:9] = 1
LABEL[6:11, 10:15] = 2

PARTS = ("train", "val", "trainval")

SHARED: dict[str, set[str]] = {
    "voc": set(),
    "voc-devkit": {
        f"VOCdevkit/VOC2012/{name}"
        for name in ("labelmap.txt", *(f"ImageSets/Segmentation/{p}.txt" for p in PARTS))
    },
    "coco": {"annotations/instances_default.json"},
    "coco-rle": {"annotations/instances_default.json"},
    "coco-stuff": {"annotations/stuff_default.json"},
    "labelme": set(),
    "cvat": {"annotations.xml"},
    "label-studio": {"tasks.json", "label_config.xml"},
    "yolo": {"classes.txt", "data.yaml"},
}
"""Files that span all images, by format."""

IMAGES = {
    "voc-devkit": "VOCdevkit/VOC2012/JPEGImages",
    "yolo": "images/train",
    "label-studio": "images",
    "cvat": "images",
    **dict.fromkeys(("coco", "coco-rle", "coco-stuff"), "images/default"),
}
"""Where the images of a data set lie, by format."""


def image_of(folder: Path, image_id: str) -> Path:
    """Write an image."""
    path = folder / f"{image_id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", LABEL.shape[::-1]).save(path)
    return path


def stored_masks() -> Masks:
    return Masks.from_dense((12, 16), [LABEL == 1, LABEL == 2, LABEL > 0])


def assert_same_pixels(actual: Masks, expected: Masks) -> None:
    assert len(actual) == len(expected)
    assert all(np.array_equal(actual.dense(i), expected.dense(i)) for i in range(len(expected)))


@pytest.mark.parametrize("name", list(LABEL_FORMATS))
def test_label_formats_write_the_files_they_promise(name: str, tmp_path: Path) -> None:
    form = LABEL_FORMATS[name](tmp_path / "labels", CLASSES)
    images = {image_id: image_of(tmp_path, image_id) for image_id in ("a", "b")}
    for image in images.values():
        form.write(image.stem, image, LABEL)
    form.finish(images, lambda image_id: LABEL)
    found = {str(p.relative_to(form.folder)) for p in form.folder.rglob("*") if p.is_file()}
    paths = [form.path(image_id) for image_id in images]
    promised = {str(path.relative_to(form.folder)) for path in paths if path is not None}
    placed = {f"{IMAGES[name]}/{image.name}" for image in images.values() if name in IMAGES}
    assert found == promised | SHARED[name] | placed
    assert len(promised) in (0, 2)


@pytest.mark.parametrize("name", list(LABEL_FORMATS))
def test_label_formats_read_back_or_say_that_they_cannot(name: str, tmp_path: Path) -> None:
    form = LABEL_FORMATS[name](tmp_path, CLASSES)
    form.write("a", image_of(tmp_path, "a"), LABEL)
    if name.startswith("voc"):
        assert np.array_equal(form.read("a"), LABEL)
    else:
        with pytest.raises(LabelError, match="cannot be read back"):
            form.read("a")
    with pytest.raises(LabelError):
        form.read("never-written")


NAMED = [name for name in LABEL_FORMATS if name != "voc"]
"""Label formats whose files name the classes."""


@pytest.mark.parametrize("name", NAMED)
def test_labels_are_stored_under_their_names(name: str, tmp_path: Path) -> None:
    form = LABEL_FORMATS[name](tmp_path / "labels", CLASSES)
    image = image_of(tmp_path, "a")
    form.write("a", image, LABEL)
    form.finish({"a": image}, lambda image_id: LABEL)
    kinds = (".json", ".txt", ".yaml", ".xml")
    text = "".join(p.read_text() for p in form.folder.rglob("*") if p.suffix in kinds)
    assert "cat" in text and "dog" in text
    assert ("background" in re.sub("background=", "", text)) == (name == "voc-devkit")


@pytest.mark.parametrize("name", NAMED)
def test_a_class_without_a_name_is_refused(name: str, tmp_path: Path) -> None:
    form = LABEL_FORMATS[name](tmp_path / "labels", CLASSES)
    label = np.where(LABEL == 2, np.uint8(3), LABEL)
    image = image_of(tmp_path, "a")
    with pytest.raises(LabelError, match="3"):
        form.write("a", image, label)
        form.finish({"a": image}, lambda image_id: label)
    assert not [p for p in form.folder.rglob("*") if p.suffix in (".json", ".txt", ".png")]


@pytest.mark.parametrize("name", list(LABEL_FORMATS))
def test_label_formats_keep_images_of_one_name_in_two_folders_apart(
    name: str, tmp_path: Path
) -> None:
    form = LABEL_FORMATS[name](tmp_path / "out", CLASSES)
    images = {name: image_of(tmp_path, name) for name in ("cats/1", "dogs/1")}
    for image_id, image in images.items():
        form.write(image_id, image, LABEL)
    form.finish(images, lambda image_id: LABEL)
    paths = [form.path(image_id) for image_id in images]
    text = "".join(p.read_text() for kind in ("json", "xml") for p in tmp_path.rglob(f"*.{kind}"))
    assert all(path.is_file() for path in paths if path) and len({*paths}) in (1, 2)
    for image_id in images if paths[0] is None or name == "labelme" else []:
        assert f'{image_id}.jpg"' in text


@pytest.mark.parametrize("name", list(MASK_FORMATS))
def test_mask_formats_keep_images_of_one_name_in_two_folders_apart(
    name: str, tmp_path: Path
) -> None:
    form = MASK_FORMATS[name](tmp_path)
    known = {"cats/1": stored_masks(), "dogs/1": stored_masks().select([])}
    for image_id, masks in known.items():
        form.write(image_id, masks)
    form.finish({name: Path(f"{name}.jpg") for name in known}, known.__getitem__)
    for image_id, masks in known.items():
        assert len(read_stored_masks(tmp_path, image_id, image_shape=masks.image_shape)) == len(
            masks
        )


def store(form: MaskFormat, image: Path, masks: Masks) -> None:
    """Write the masks of one image, as a command does."""
    form.write(image.stem, masks)
    form.finish({image.stem: image}, lambda image_id: masks)


@pytest.mark.parametrize("name", list(MASK_FORMATS))
def test_mask_formats_store_images_without_masks(name: str, tmp_path: Path) -> None:
    form = MASK_FORMATS[name](tmp_path / "masks")
    store(form, tmp_path / "a.jpg", Masks.from_dense((12, 16), []))
    assert form.has("a")
    empty = form.read("a", image_shape=(12, 16))
    assert len(empty) == 0 and empty.image_shape == (12, 16)


@pytest.mark.parametrize("name", list(MASK_FORMATS))
def test_mask_formats_read_what_they_write(name: str, tmp_path: Path) -> None:
    form = MASK_FORMATS[name](tmp_path / "masks")
    assert not form.has("a")
    store(form, tmp_path / "a.jpg", stored_masks())
    assert form.has("a") and not form.has("b")
    assert_same_pixels(form.read("a", image_shape=(12, 16)), stored_masks())
    assert_same_pixels(read_stored_masks(form.folder, "a", image_shape=(12, 16)), stored_masks())
    with pytest.raises(MaskFileError, match=r"\(12, 16\).*expected \(12, 17\)"):
        form.read("a", image_shape=(12, 17))
    with pytest.raises(MaskFileError):
        form.read("b", image_shape=(12, 16))


def test_stored_masks_are_looked_for_in_the_order_of_the_registry(tmp_path: Path) -> None:
    assert list(MASK_FORMATS) == ["records", "png", "coco"]
    with pytest.raises(MaskFileError, match=r"looked for a\.json, a, instances\.json"):
        read_stored_masks(tmp_path, "a")
    for count, name in enumerate(reversed(list(MASK_FORMATS)), 1):
        form = MASK_FORMATS[name](tmp_path)
        store(form, tmp_path / "a.jpg", stored_masks().select(range(count)))
        assert len(read_stored_masks(tmp_path, "a")) == count


class TextLabels(LabelFormat):
    """A format of somebody else."""

    def path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.txt"

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(image_id).write_text(str(label.tolist()))


def test_a_format_is_one_entry(tmp_path: Path) -> None:
    LABEL_FORMATS.add("text", TextLabels)
    try:
        form = LABEL_FORMATS["text"](tmp_path, CLASSES)
        form.write("a", tmp_path / "a.jpg", LABEL)
        assert (tmp_path / "a.txt").is_file()
        assert list(LABEL_FORMATS)[-1] == "text"
    finally:
        LABEL_FORMATS.remove("text")


class NumpyMasks(MaskFormat):
    """Masks of somebody else: a stack (N, H, W) bool per image."""

    def place(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.npy"

    def write(self, image_id: str, masks: Masks) -> None:
        stack = [masks.dense(index) for index in range(len(masks))]
        np.save(self.place(image_id), np.array(stack))

    @staticmethod
    def save(path: Path, masks: Masks) -> None:
        np.save(path, np.array(list(masks)))

    def read(self, image_id: str, *, image_shape: ImageShape | None = None) -> Masks:
        stack = np.load(self.place(image_id))
        return Masks.from_dense(image_shape or stack.shape[1:], stack)


@pytest.fixture
def numpy_masks() -> Iterator[str]:
    """Register a mask format for one test."""
    MASK_FORMATS.add("numpy", NumpyMasks)
    yield "numpy"
    MASK_FORMATS.remove("numpy")


def test_stored_masks_are_looked_for_in_a_registered_format(
    numpy_masks: str, tmp_path: Path
) -> None:
    with pytest.raises(MaskFileError, match=r"looked for a\.json, a, instances\.json, a\.npy\)$"):
        read_stored_masks(tmp_path, "a")
    form = MASK_FORMATS[numpy_masks](tmp_path)
    store(form, tmp_path / "a.jpg", stored_masks())
    assert_same_pixels(read_stored_masks(tmp_path, "a"), stored_masks())


def test_a_coco_file_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    form = MASK_FORMATS["coco"](tmp_path)
    form.finish({"a": Path("a.jpg")}, lambda image_id: stored_masks())
    path = form.place("a").rename(tmp_path / "all my masks.json")
    check_stored_masks(path)
    assert find_stored_masks(path, "a") == path
    assert find_stored_masks(path, "b") is None
    assert_same_pixels(read_stored_masks(path, "a"), stored_masks())
    with pytest.raises(MaskFileError, match=r"no masks of b \(looked for all my masks\.json\)"):
        read_stored_masks(path, "b")


@pytest.mark.parametrize("name", ["masks.json", "0000.png", "none.json"])
def test_other_files_are_refused_once(tmp_path: Path, name: str) -> None:
    MASK_FORMATS["records"](tmp_path).write("masks", stored_masks())
    (tmp_path / "0000.png").write_bytes(b"\x89PNG")
    with pytest.raises(SettingsError, match="expected a folder of masks, or a COCO file"):
        check_stored_masks(tmp_path / name)
