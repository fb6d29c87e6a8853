"""Label maps as PNG files: what is written, what is read, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime import labels
from samrefine_runtime.errors import LabelError
from samrefine_runtime.labels import (
    IGNORE,
    PALETTE,
    VOC_CLASSES,
    count_values,
    decode_label,
    encode_label,
    read_label,
    write_label,
)
from tests.png_files import SIGNATURE, chunk, flipped_bits, gray_png, header

LABEL = np.array([[0, 1, 20], [255, 15, 7]], np.uint8)


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, position = {}, 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        found[png[position + 4 : position + 8]] = png[position + 8 : position + 8 + length]
        position += 12 + length
    return found


def save(path: Path, pixels: NDArray[Any], mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_palette_is_vocs() -> None:
    assert PALETTE.shape == (256, 3)
    assert PALETTE[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == 256
    assert len(VOC_CLASSES) == 21


def test_golden_png() -> None:
    """Pixels as stored, not as compressed: zlib versions differ in the latter."""
    png = chunks(encode_label(LABEL))
    assert list(png) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert png[b"IHDR"] == struct.pack(">IIBBBBB", 3, 2, 8, 3, 0, 0, 0)
    assert png[b"PLTE"] == PALETTE.tobytes()
    assert zlib.decompress(png[b"IDAT"]) == bytes([0, 0, 1, 20, 0, 255, 15, 7])


def test_same_label_same_bytes() -> None:
    assert encode_label(LABEL) == encode_label(np.asfortranarray(LABEL))


def test_own_palette_is_filled_up(tmp_path: Path) -> None:
    write_label(tmp_path / "a.png", LABEL, np.array([[9, 9, 9], [1, 2, 3]], np.uint8))
    assert np.array_equal(read_label(tmp_path / "a.png"), LABEL)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getpalette()[:9] == [9, 9, 9, 1, 2, 3, 0, 0, 0]


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, label: NDArray[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "label.png"
    write_label(path, label)
    assert np.array_equal(read_label(path), label)


@pytest.mark.parametrize(
    "label",
    [LABEL.astype(np.int64), LABEL[None], np.zeros((0, 3), np.uint8), LABEL > 3],
)
def test_only_labels_are_written(tmp_path: Path, label: NDArray[Any]) -> None:
    with pytest.raises(LabelError, match=r"expected \(H, W\) uint8|expected at least one pixel"):
        write_label(tmp_path / "a.png", label)
    assert list(tmp_path.iterdir()) == []


def test_gray_values_are_classes(tmp_path: Path) -> None:
    assert np.array_equal(read_label(save(tmp_path / "a.png", LABEL)), LABEL)


def test_one_bit_values_are_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", LABEL > 10, "1")
    assert np.array_equal(read_label(path), LABEL > 10)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("interlace", [0, 1])
def test_few_bit_gray_is_not_stretched(tmp_path: Path, bits: int, interlace: int) -> None:
    """Such files are legal PNG, Pillow only reads them."""
    highest = (1 << bits) - 1
    # Interlaced, one pixel a pass: the first and the sixth
    rows = (
        [bytes([0, 1 << (8 - bits)]), bytes([0, highest << (8 - bits)])]
        if interlace
        else [bytes([0, (1 << (8 - bits)) | (highest << (8 - 2 * bits))])]
    )
    png = gray_png(2, 1, b"".join(rows), bits=bits, interlace=interlace)
    (tmp_path / "a.png").write_bytes(png)
    assert read_label(tmp_path / "a.png").tolist() == [[1, highest]]


def test_few_colour_palette_gives_indices(tmp_path: Path) -> None:
    image = Image.fromarray(LABEL % 3)
    image.putpalette([9, 8, 7, 200, 100, 50, 1, 1, 1])
    image.save(tmp_path / "a.png", bits=2)
    assert np.array_equal(read_label(tmp_path / "a.png"), LABEL % 3)


def test_sixteen_bit_values(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", LABEL.astype(np.uint16))
    assert np.array_equal(read_label(path), LABEL)
    save(path, LABEL.astype(np.uint16) + 1)
    with pytest.raises(LabelError, match="values up to 256, expected 0 to 255"):
        read_label(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_voc_colours_become_classes(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.png", PALETTE[LABEL], mode)
    assert np.array_equal(read_label(path), LABEL)


def test_other_colours_are_refused(tmp_path: Path) -> None:
    pixels = PALETTE[LABEL].copy()
    pixels[1, 1] += 1
    with pytest.raises(LabelError, match=r"colour \(193, 129, 129\) is not in the VOC palette"):
        read_label(save(tmp_path / "a.png", pixels))


def hostile_files() -> dict[str, tuple[bytes, str]]:
    png = encode_label(LABEL)
    jpeg = io.BytesIO()
    Image.fromarray(LABEL).save(jpeg, "JPEG")
    alpha = io.BytesIO()
    Image.fromarray(LABEL).convert("LA").save(alpha, "PNG")
    transparent, animated = io.BytesIO(), io.BytesIO()
    image = Image.fromarray(np.dstack([PALETTE[LABEL], np.full((2, 3), 254, np.uint8)]))
    image.save(transparent, "PNG")
    Image.fromarray(LABEL).save(
        animated, "PNG", save_all=True, append_images=[Image.fromarray(LABEL + 1)]
    )
    return {
        "empty": (b"", "not a readable label image"),
        "text": (b"not an image", "not a readable label image"),
        "truncated": (png[:-30], "not a readable label image"),
        "header only": (png[:40], "not a readable label image"),
        "damaged": (png.replace(b"IDAT", b"IDAX"), "not a readable label image"),
        "JPEG": (jpeg.getvalue(), "a JPEG image, expected PNG"),
        "gray with alpha": (alpha.getvalue(), "image mode LA, expected .* without alpha"),
        "transparent": (transparent.getvalue(), "has transparent pixels, expected a label without"),
        "16-bit colours": (
            SIGNATURE
            + header(1, 1, bits=16, colour_type=2)
            + chunk(b"IDAT", zlib.compress(bytes(7)))
            + chunk(b"IEND", b""),
            "colours of 16 bits, expected 8",
        ),
        "ends early": (gray_png(3, 2, bytes(7)), "not a readable label image .*7 of the 8 bytes"),
        "animated": (animated.getvalue(), "not a readable label image .2 frames"),
    }


@pytest.mark.parametrize("name", hostile_files())
def test_hostile_files(tmp_path: Path, name: str) -> None:
    data, message = hostile_files()[name]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(LabelError, match=rf"bad\.png: {message}"):
        read_label(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"none\.png: no such file"):
        read_label(tmp_path / "none.png")
    with pytest.raises(LabelError, match="a folder, expected a file"):
        read_label(tmp_path)


BLACK_AND_WHITE = bytes([0, 0, 0] * 255 + [255, 255, 255])


@pytest.mark.parametrize(
    ("values", "palette", "is_label"),
    [
        ([0, 255], None, False),
        ([255, 255], None, False),
        ([0, 255], BLACK_AND_WHITE, False),
        ([0, 0], None, True),
        ([0, 1], None, True),
        # A class with a border of no class, as VOC has it, whatever the colours
        ([0, 15, 255], None, True),
        ([1, 255], BLACK_AND_WHITE, True),
        # No class in an image of uncertain pixels: its palette says that 255 is not white
        ([0, 255], PALETTE.tobytes(), True),
    ],
)
def test_black_and_white_is_a_mask_and_no_label(
    tmp_path: Path, values: list[int], palette: bytes | None, is_label: bool
) -> None:
    image = Image.fromarray(np.array([values], np.uint8))
    if palette is not None:
        image.putpalette(palette)
    image.save(tmp_path / "a.png", bits=8)
    if is_label:
        assert read_label(tmp_path / "a.png").tolist() == [values]
        return
    with pytest.raises(LabelError, match=r"0 and 255 only, as in a mask.*number of its class"):
        read_label(tmp_path / "a.png")


def test_sixteen_bit_masks_are_no_labels_either(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, IGNORE]], np.uint16))
    with pytest.raises(LabelError, match="as in a mask"):
        read_label(path)


def test_transparency_of_a_palette_does_not_change_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(LABEL)
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "a.png", transparency=bytes([0, 0, 128]))
    assert np.array_equal(read_label(tmp_path / "a.png"), LABEL)


@pytest.mark.parametrize(
    "png",
    [
        encode_label(LABEL),
        gray_png(3, 2, b"\0" + LABEL[0].tobytes() + b"\0" + LABEL[1].tobytes()),
        gray_png(2, 1, bytes([0, 0b10_01_0000]), bits=2, extra=chunk(b"tEXt", b"a\0b")),
    ],
    ids=["palette", "gray", "2 bits"],
)
def test_a_flipped_bit_never_changes_a_class(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.png"
    # Every bit of the small files; of the palette, which is not what is read, some
    for damaged in flipped_bits(png, step=1 if len(png) < 200 else 17):
        path.write_bytes(damaged)
        with pytest.raises(LabelError, match=r"a\.png: not a readable label image"):
            read_label(path)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_values_are_counted_in_pieces(label: NDArray[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_PIECE_PIXELS", 7)
        counts = count_values(label)
    assert np.array_equal(counts, np.bincount(label.reshape(-1), minlength=256))


@settings(deadline=None)
@given(st.data())
def test_no_damage_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    png = bytearray(encode_label(LABEL))
    for _ in range(data.draw(st.integers(1, 4))):
        png[data.draw(st.integers(0, len(png) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(png)
    try:
        read_label(path)
    except LabelError as error:
        assert "damaged.png" in str(error)


def test_encoded_labels_are_decoded() -> None:
    assert np.array_equal(decode_label(encode_label(LABEL)), LABEL)
    with pytest.raises(LabelError, match=r"label image: .*the limit is 1"):
        decode_label(encode_label(LABEL), max_pixels=1)
    with pytest.raises(LabelError, match="label image: not a readable label image"):
        decode_label(b"nonsense")
