"""Folders of 0/255 PNG masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from samrefine_runtime.errors import MaskFileError, OutputError
from samrefine_runtime.formats import read_stored_masks
from samrefine_runtime.formats.coco import FILE_NAME, MASK_CLASSES, open_coco
from samrefine_runtime.formats.mask_folder import read_mask_folder, write_mask_folder
from samrefine_runtime.formats.records import read_masks, write_masks
from samrefine_runtime.masks.masks import Masks
from tests.png_files import flipped_bits

GOLDEN = Path(__file__).parent / "golden"
MASK = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.fixture
def golden() -> Masks:
    return read_masks(GOLDEN / "masks.json")


def test_files_and_golden_metadata(tmp_path: Path, golden: Masks) -> None:
    write_mask_folder(tmp_path / "image", golden)
    names = sorted(path.name for path in (tmp_path / "image").iterdir())
    assert names == ["0000.png", "0001.png", "metadata.csv"]
    metadata = (tmp_path / "image" / "metadata.csv").read_bytes()
    assert metadata == (GOLDEN / "metadata.csv").read_bytes()
    with Image.open(tmp_path / "image" / "0000.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), golden.dense(0) * np.uint8(255))


@settings(deadline=None)
@given(st.data())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    size = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    dense = data.draw(hnp.arrays(np.bool_, (data.draw(st.integers(0, 12)), *size)))
    folder = tmp_path_factory.getbasetemp() / "round"
    write_mask_folder(folder, Masks.from_dense(size, dense))
    masks = read_mask_folder(folder, image_shape=size)
    assert len(masks) == len(dense)
    assert all(np.array_equal(masks.dense(i), mask) for i, mask in enumerate(dense))


def test_writing_again_leaves_no_old_masks(tmp_path: Path, golden: Masks) -> None:
    write_mask_folder(tmp_path / "a", golden)
    write_mask_folder(tmp_path / "a", golden.select([1]))
    assert len(read_mask_folder(tmp_path / "a")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("mode", [None, "1", "P", "RGB", "RGBA"])
def test_any_kind_of_png(tmp_path: Path, mode: str) -> None:
    save(tmp_path / "mask of a cat.png", MASK, mode)
    assert np.array_equal(read_mask_folder(tmp_path).dense(0), MASK == 255)


def test_order_is_by_name_and_other_files_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "b.png", MASK)
    save(tmp_path / "a.png", 255 - MASK)
    save(tmp_path / ".hidden.png", MASK[:1])
    (tmp_path / "notes.txt").touch()
    masks = read_mask_folder(tmp_path)
    assert masks.areas.tolist() == [3, 3]
    assert np.array_equal(masks.dense(1), MASK == 255)


def test_a_black_file_is_an_empty_mask(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.array([[0, 0, 255]], np.uint8))
    save(tmp_path / "b.PNG", np.zeros((1, 3), np.uint8))
    assert read_mask_folder(tmp_path).areas.tolist() == [1, 0]


def make_hostile(folder: Path, name: str) -> None:
    save(folder / "a.png", MASK)
    bad = folder / "b.png"
    if name == "empty":
        bad.touch()
    elif name == "text":
        bad.write_text("mask")
    elif name == "truncated":
        bad.write_bytes((folder / "a.png").read_bytes()[:-30])
    elif name == "folder":
        bad.mkdir()
    elif name == "size":
        save(bad, MASK.T)
    elif name == "zeros and ones":
        save(bad, MASK // 255)
    elif name == "16 bit":
        save(bad, MASK.astype(np.uint16) * 257)
    elif name == "soft edge":
        save(bad, np.where(MASK == 255, 254, 0).astype(np.uint8))
    elif name == "red":
        save(bad, MASK[..., None] * np.array([1, 0, 0], np.uint8))
    elif name == "transparent":
        save(bad, np.dstack([MASK] * 3 + [MASK]))
    elif name == "JPEG":
        Image.fromarray(MASK).save(bad, "JPEG")
    elif name == "link":
        bad.symlink_to("gone.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "not a readable 0/255 mask"),
        ("text", "not a readable 0/255 mask"),
        ("truncated", "not a readable 0/255 mask"),
        ("folder", "a folder, expected a file"),
        ("size", r"mask is \(3, 2\) \(H, W\), expected \(2, 3\)"),
        ("zeros and ones", "a pixel is 1, expected 0 and 255 only"),
        ("16 bit", "image mode I"),
        ("soft edge", "a pixel is 254, expected 0 and 255 only"),
        ("red", r"a pixel is RGBA \[255, 0, 0, 255\], expected 0 and 255 only"),
        ("transparent", r"a pixel is RGBA \[0, 0, 0, 0\], expected 0 and 255 only"),
        ("JPEG", "a JPEG image, expected PNG"),
        ("link", r"a link to gone\.png, which does not exist"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, message: str) -> None:
    make_hostile(tmp_path, name)
    with pytest.raises(MaskFileError, match=rf"b\.png: .*{message}|b\.png: {message}"):
        read_mask_folder(tmp_path)


def test_a_flipped_bit_never_changes_a_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", MASK)
    for damaged in flipped_bits(path.read_bytes(), step=7):
        path.write_bytes(damaged)
        with pytest.raises(MaskFileError, match="not a readable 0/255 mask"):
            read_mask_folder(tmp_path)


def test_missing_folder_and_size(tmp_path: Path) -> None:
    with pytest.raises(MaskFileError, match="none: no such folder of masks"):
        read_mask_folder(tmp_path / "none")
    save(tmp_path / "a.png", MASK)
    with pytest.raises(MaskFileError, match=r"expected \(9, 9\)"):
        read_mask_folder(tmp_path, image_shape=(9, 9))


@pytest.mark.parametrize("image_shape", [None, (2, 3)])
def test_an_empty_folder_is_no_image_without_masks(
    tmp_path: Path, image_shape: tuple[int, int] | None
) -> None:
    """It may be a copy that failed; only a list that says so does."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MaskFileError, match=r"no PNG masks here, and no metadata\.csv that lists"):
        read_mask_folder(tmp_path, image_shape=image_shape)
    (tmp_path / "metadata.csv").write_text("id,name\n")
    with pytest.raises(MaskFileError, match="no PNG masks here"):
        read_mask_folder(tmp_path, image_shape=image_shape)
    write_mask_folder(tmp_path / "a", Masks.from_dense((2, 3), []))
    assert len(read_mask_folder(tmp_path / "a", image_shape=(2, 3))) == 0
    with pytest.raises(MaskFileError, match="which would state the image's size"):
        read_mask_folder(tmp_path / "a")


def test_masks_that_are_listed_must_be_there(tmp_path: Path, golden: Masks) -> None:
    write_mask_folder(tmp_path / "a", golden)
    (tmp_path / "a" / "0001.png").unlink()
    with pytest.raises(MaskFileError, match=r"metadata\.csv lists 2 masks, here are 1"):
        read_mask_folder(tmp_path / "a")
    (tmp_path / "a" / "0000.png").unlink()
    with pytest.raises(MaskFileError, match="lists 2 masks, here are 0"):
        read_mask_folder(tmp_path / "a", image_shape=golden.image_shape)


def test_masks_are_found_in_every_layout(tmp_path: Path, golden: Masks) -> None:
    write_masks(tmp_path / "a.json", golden)
    write_mask_folder(tmp_path / "a", golden.select([0]))
    write_mask_folder(tmp_path / "b.c", golden.select([0]))
    with open_coco(tmp_path / FILE_NAME, MASK_CLASSES) as writer:
        writer.add_masks("images/b.c.jpg", golden)
        writer.add_masks("images/d.jpg", golden.select([1, 0]))
    assert len(read_stored_masks(tmp_path, "a")) == 2
    assert len(read_stored_masks(tmp_path, "b.c", image_shape=(4, 5))) == 1
    found = read_stored_masks(tmp_path, "d")
    assert np.array_equal(found.boxes, golden.boxes[::-1])
    assert np.array_equal(found.predicted_iou, golden.predicted_iou[::-1])
    with pytest.raises(
        MaskFileError, match=r"no masks of e \(looked for e\.json, e, instances\.json\)"
    ):
        read_stored_masks(tmp_path, "e")
    with pytest.raises(MaskFileError, match=r"expected \(1, 1\)"):
        read_stored_masks(tmp_path, "d", image_shape=(1, 1))


def test_changed_coco_file_is_read_again(tmp_path: Path, golden: Masks) -> None:
    for count in (1, 2):
        with open_coco(tmp_path / FILE_NAME, MASK_CLASSES) as writer:
            writer.add_masks("a.jpg", golden.select(range(count)))
        assert len(read_stored_masks(tmp_path, "a")) == count


def test_files_of_others_stay_in_the_folder(tmp_path: Path, golden: Masks) -> None:
    folder = tmp_path / "a"
    write_mask_folder(folder, golden)
    (folder / "notes.txt").write_text("mine")
    write_mask_folder(folder, golden.select([1]))
    assert sorted(path.name for path in folder.iterdir()) == [
        "0000.png",
        "metadata.csv",
        "notes.txt",
    ]


def test_masks_of_others_are_not_replaced(tmp_path: Path, golden: Masks) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0000.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"0000\.png is in the way"):
        write_mask_folder(tmp_path / "a", golden)
    assert (tmp_path / "a" / "0000.png").read_bytes() == b"mine"
