"""PNG files made by hand: kinds that Pillow does not write, and damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def header(
    width: int, height: int, *, bits: int = 8, colour_type: int = 0, interlace: int = 0
) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)
    return chunk(b"IHDR", fields)


def gray_png(
    width: int,
    height: int,
    data: bytes,
    *,
    bits: int = 8,
    interlace: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A grayscale PNG of rows that begin with their filter type, and further chunks before them."""
    start = SIGNATURE + header(width, height, bits=bits, interlace=interlace) + extra
    return start + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@cache
def black_png(side: int) -> bytes:
    """A black square, in a file of about a thousandth of its pixels' bytes."""
    row, stream = bytes(1 + 3 * side), zlib.compressobj(9)
    data = b"".join(stream.compress(row) for _ in range(side)) + stream.flush()
    start = SIGNATURE + header(side, side, colour_type=2)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def flipped_bits(png: bytes, step: int = 1) -> Iterator[bytes]:
    """The file with each of its bits flipped, or every `step`-th, one at a time."""
    for bit in range(0, 8 * len(png), step):
        damaged = bytearray(png)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)
