"""PNG files that are whole and undamaged, and all others."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samrefine_runtime.png import check_png, read_header
from tests.png_files import SIGNATURE, black_png, chunk, flipped_bits, gray_png, header

PLAIN = gray_png(3, 2, bytes([0, 1, 2, 3, 0, 4, 5, 6]))

ADAM7 = np.array(
    [
        [1, 6, 4, 6, 2, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [3, 6, 4, 6, 3, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
    ]
)
"""The pass of each pixel of an interlaced image, as the specification draws it (section 8.1)."""


def interlaced_bytes(width: int, height: int) -> int:
    """Bytes of an interlaced 8-bit gray image: per pass and row, the filter type and its pixels."""
    passes = np.tile(ADAM7, (2, 2))[:height, :width]
    pixels = [(passes == number).sum(axis=1) for number in range(1, 8)]
    return sum(int((1 + rows[rows > 0]).sum()) for rows in pixels)


def saved(mode: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 13, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_sound_files(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved("L" if mode == "I;16" else mode))
    if mode == "I;16":
        Image.fromarray(np.ones((21, 13), np.uint16)).save(path)
    check_png(path)
    assert read_header(path)[:2] == (13, 21)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (5, 5), (3, 9), (9, 2), (16, 11)])
def test_interlaced_files(tmp_path: Path, shape: tuple[int, int]) -> None:
    path, size = tmp_path / "a.png", interlaced_bytes(*shape)
    path.write_bytes(gray_png(*shape, bytes(size), interlace=1))
    assert read_header(path).data_bytes == size
    check_png(path)
    with Image.open(path) as image:
        image.load()


@pytest.mark.parametrize(
    "png", [PLAIN, saved("P", transparency=3), saved("RGBA"), saved("1")], ids=len
)
def test_every_flipped_bit_is_found(tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "a.png"
    for damaged in flipped_bits(png, step=1 if len(png) < 100 else 41):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="PNG"):
            check_png(path)


def test_every_shorter_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for length in range(len(PLAIN)):
        path.write_bytes(PLAIN[:length])
        with pytest.raises(ValueError, match="PNG"):
            check_png(path)


def test_what_follows_the_end_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PLAIN + b"anything")
    check_png(tmp_path / "a.png")


START, END = SIGNATURE + header(3, 2), chunk(b"IEND", b"")
WRONG = {
    "too little data": (gray_png(3, 2, bytes(4)), "holds 4 of the 8 bytes"),
    "too much data": (gray_png(3, 2, bytes(9)), "more than the 8 bytes"),
    "a bomb": (gray_png(3, 2, bytes(50_000_000)), "more than the 8 bytes"),
    "no data": (START + END, "holds 0 of the 8 bytes"),
    "cut stream": (
        START + chunk(b"IDAT", zlib.compress(bytes(8))[:-2]) + END,
        "holds 8 of the 8 bytes",
    ),
    "no stream": (START + chunk(b"IDAT", b"12345678") + END, "damaged PNG: "),
    "no header": (SIGNATURE + END, "damaged PNG chunk b'IEND'"),
    "two headers": (START + header(3, 2) + END, "damaged PNG chunk b'IHDR'"),
    "short header": (SIGNATURE + chunk(b"IHDR", bytes(5)) + END, "without a header"),
    "unknown kind": (SIGNATURE + header(3, 2, colour_type=5) + END, "of an unknown kind"),
    "endless chunk": (START + struct.pack(">I4s", 1 << 31, b"IDAT"), "damaged PNG chunk b'IDAT'"),
    "long chunk": (START + struct.pack(">I4s", 1 << 30, b"IDAT"), "ends early"),
    "another format": (b"GIF89a" + bytes(50), "not a PNG file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(tmp_path: Path, name: str) -> None:
    content, message = WRONG[name]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_png(tmp_path / "a.png")


def test_large_data_is_counted_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(black_png(3000))
    check_png(tmp_path / "a.png")
