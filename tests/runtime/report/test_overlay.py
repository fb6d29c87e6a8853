"""Pictures of labels and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime import image
from samrefine_runtime.errors import OutputError
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.overlay import draw_label, draw_masks, write_picture
from tests.samples import synthetic

IMAGE = synthetic((20, 30))


def test_label_is_tinted_and_outlined() -> None:
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 5:15] = 12
    before = IMAGE.copy()
    drawn = draw_label(IMAGE, label, opacity=0.5)
    assert drawn.shape == IMAGE.shape and drawn.dtype == np.uint8
    mixed = (IMAGE[8, 8].astype(float) + PALETTE[12]) / 2
    assert np.abs(drawn[8, 8] - mixed).max() <= 1
    assert (drawn[4, 5:15] == 255).all() and (drawn[14, 5:15] == 255).all()
    assert np.array_equal(drawn[17:], IMAGE[17:])
    assert np.array_equal(IMAGE, before)


def test_background_is_left_as_it_is() -> None:
    assert np.array_equal(draw_label(IMAGE, np.zeros((20, 30), np.uint8)), IMAGE)


def test_classes_without_a_colour_are_outlined_only() -> None:
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 5:15] = 200
    drawn = draw_label(IMAGE, label, palette=PALETTE[:3])
    assert np.array_equal(drawn[6:14, 6:14], IMAGE[6:14, 6:14])
    assert (drawn[4, 5:15] == 255).all()


def test_void_has_its_colour() -> None:
    drawn = draw_label(IMAGE, np.full((20, 30), 255, np.uint8), opacity=1)
    assert (drawn == PALETTE[255]).all()


@pytest.mark.parametrize("strip_pixels", [1, 70, 90])
def test_strips_make_no_difference(strip_pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    masks = Masks.from_dense((20, 30), [label == 1, label > 0, np.ones((20, 30), bool)])
    whole = draw_label(IMAGE, label), draw_masks(IMAGE, masks)
    monkeypatch.setattr(image, "_STRIP_PIXELS", strip_pixels)
    assert all(map(np.array_equal, (draw_label(IMAGE, label), draw_masks(IMAGE, masks)), whole))


def test_small_masks_lie_on_large_ones() -> None:
    stack = np.zeros((3, 20, 30), bool)
    stack[0, 8:12, 8:12] = True
    stack[1, 2:18, 2:18] = True
    stack[2, 2:18, 20:28] = True
    drawn = draw_masks(IMAGE, Masks.from_dense((20, 30), stack), opacity=1)
    small, large, other = drawn[9, 9], drawn[4, 4], drawn[5, 24]
    assert len({tuple(colour) for colour in (small, large, other)}) == 3
    assert np.array_equal(drawn[0], IMAGE[0])


def test_no_masks() -> None:
    assert np.array_equal(draw_masks(IMAGE, Masks.from_dense((20, 30), [])), IMAGE)


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a", "JPEG")])
def test_written_in_the_format_of_its_name(tmp_path: Path, name: str, form: str) -> None:
    write_picture(tmp_path / "new" / name, IMAGE)
    with Image.open(tmp_path / "new" / name) as image:
        assert image.format == form
        assert image.size == (30, 20)
        if form == "PNG":
            assert np.array_equal(np.asarray(image), IMAGE)


def test_picture_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "file" / "a.jpg", IMAGE)
