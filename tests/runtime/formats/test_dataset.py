"""Which images are for validation, and how images come into a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.errors import ImageError, LabelError
from samrefine_runtime.formats.dataset import (
    VAL,
    one_line_names,
    part_of,
    place_image,
    place_jpeg,
)
from samrefine_runtime.image import read_image

IDS = [f"2007_{number:06d}" for number in range(2000)]


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 1])
def test_a_fraction_is_for_validation(fraction: float) -> None:
    share = sum(part_of(name, fraction) == VAL for name in IDS) / len(IDS)
    assert abs(share - fraction) < 0.03
    assert fraction not in (0, 1) or share == fraction


def test_a_larger_fraction_keeps_what_was_for_validation() -> None:
    assert all(part_of(name, 0.3) == VAL for name in IDS if part_of(name, 0.2) == VAL)
    # The same on every machine and in every release
    assert [name for name in "abcdefghij" if part_of(name, 0.3) == VAL] == [
        "b",
        "c",
        "d",
        "e",
        "f",
        "j",
    ]


def test_images_are_copied_or_linked(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (4, 3), "red").save(image)
    place_image(image, tmp_path / "b" / "copy.png", "copy")
    place_image(image, tmp_path / "b" / "link.png", "link")
    assert (tmp_path / "b" / "copy.png").read_bytes() == image.read_bytes()
    assert (tmp_path / "b" / "link.png").samefile(image)
    place_image(image, tmp_path / "b" / "none.png", "none")
    place_jpeg(image, tmp_path / "b" / "none.jpg", "none")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["copy.png", "link.png"]


def test_links_become_copies_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no hard links here")

    image = tmp_path / "a.png"
    Image.new("RGB", (4, 3), "red").save(image)
    monkeypatch.setattr("os.link", refuse)
    place_image(image, tmp_path / "b.png", "link")
    assert (tmp_path / "b.png").read_bytes() == image.read_bytes()


def test_jpegs_are_kept_and_all_else_becomes_an_upright_jpeg(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(0, 240, 10, np.uint8)[:, None], 16, axis=1)
    image = Image.fromarray(np.stack([rows] * 3, axis=-1))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "other.png")
    for name in ("plain.jpg", "turned.jpg", "other.png"):
        target = tmp_path / "out" / f"{name}.jpg"
        place_jpeg(tmp_path / name, target, "copy")
        with Image.open(target) as placed:
            # Programs that do not heed EXIF see the image as the label is
            assert placed.format == "JPEG" and placed.getexif().get(0x0112, 1) == 1
            pixels = np.asarray(placed.convert("RGB")).astype(int)
        assert np.abs(pixels - read_image(tmp_path / name)).max() <= 4
    kept = (tmp_path / "out" / "plain.jpg.jpg").read_bytes()
    assert kept == (tmp_path / "plain.jpg").read_bytes()


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match="not a readable image"):
        place_jpeg(tmp_path / "a.jpg", tmp_path / "b.jpg", "copy")
    with pytest.raises(ImageError, match="no such file"):
        place_image(tmp_path / "c.jpg", tmp_path / "b.jpg", "link")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_names_that_do_not_fit() -> None:
    assert list(one_line_names(["a b", "c:d"])) == ["a b", "c:d"]
    for name, forbidden in (("a\nb", ""), ("", ""), ("a:b", ":")):
        with pytest.raises(LabelError, match="class name"):
            list(one_line_names([name], forbidden))
