"""PNG files bit by bit: whether one is whole and undamaged, which Pillow does not look at.

Pillow skips the checksum of image data and takes data that ends early for black pixels, so that a
flipped bit in a label file would change classes without a word.
PNG specification: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG file."""

_PIECE_BYTES = 1 << 20
"""Size of the pieces in which data is read and decompressed, 1 MiB."""

_MAX_CHUNK_BYTES = (1 << 31) - 1
"""Section 5.3: lengths fit 31 bits."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels by colour type: gray, RGB, palette, gray with alpha, RGBA (section 11.2.1)."""

_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, step of columns and of rows of the passes of an interlaced image
(Adam7, section 8.1)."""


class PngHeader(NamedTuple):
    """The header of a PNG file (IHDR, section 11.2.1)."""

    width: int
    height: int
    bit_depth: int
    """Bits per channel."""
    colour_type: int
    """0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA."""
    compression: int
    filters: int
    interlace: int
    """0, or 1 for Adam7."""

    @property
    def data_bytes(self) -> int:
        """Bytes of the decompressed image data: rows of pixels, each after its filter type."""
        whole = ((0, 0, 1, 1),)
        sizes = [
            (-(-(self.width - left) // across), -(-(self.height - top) // down))
            for left, top, across, down in (_PASSES if self.interlace else whole)
        ]
        bits = self.bit_depth * _CHANNELS[self.colour_type]
        # A pass without columns has no rows either
        return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0)


def read_header(source: str | Path | bytes) -> PngHeader:
    """Read the header of a PNG file, or of its bytes. Raises OSError or ValueError."""
    with _opened(source) as file:
        return _header(next(_chunks(file), (b"", b""))[1])


def check_png(source: str | Path | bytes) -> None:
    """Check a PNG file, or its bytes, from its signature to its end.

    Every checksum must hold, and the image data must decompress to as many bytes as the pixels of
    the header take: then a damaged file cannot pass for another image.

    Raises:
        ValueError: the file is damaged or ends early.
        OSError: it cannot be read.
    """
    with _opened(source) as file:
        chunks = _chunks(file)
        header = _header(next(chunks, (b"", b""))[1])
        data = _DataSize(header.data_bytes)
        for kind, piece in chunks:
            if kind == b"IDAT":
                data.add(piece)
        data.finish()


def _opened(source: str | Path | bytes) -> BinaryIO:
    """Open a file, or its bytes as one. Raises OSError."""
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _header(content: bytes) -> PngHeader:
    """Parse the content of the header chunk. Raises ValueError."""
    if len(content) != struct.calcsize(">IIBBBBB"):
        raise ValueError("PNG without a header")
    header = PngHeader(*struct.unpack(">IIBBBBB", content))
    if header.colour_type not in _CHANNELS or header.interlace > 1:
        raise ValueError("PNG of an unknown kind")
    return header


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the content of each chunk, the content in pieces; empty ones are left out.

    The header comes first, in one piece. What follows the end chunk is not read: it is no part of
    the image.

    Raises:
        ValueError: a chunk is cut off or its checksum is wrong.
    """
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise ValueError("not a PNG file")
    kind = b""
    while kind != b"IEND":
        is_first = not kind
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if length > _MAX_CHUNK_BYTES or (kind == b"IHDR") != is_first:
            raise ValueError(f"damaged PNG chunk {kind!r}")
        checksum = zlib.crc32(kind)
        for start in range(0, length, _PIECE_BYTES):
            piece = _exactly(file, min(_PIECE_BYTES, length - start))
            checksum = zlib.crc32(piece, checksum)
            yield kind, piece
        if _exactly(file, 4) != checksum.to_bytes(4, "big"):
            raise ValueError(f"damaged PNG: wrong checksum of chunk {kind!r}")


def _exactly(file: BinaryIO, count: int) -> bytes:
    """Read that many bytes. Raises ValueError if the file ends before."""
    content = file.read(count)
    if len(content) != count:
        raise ValueError("PNG file ends early")
    return content


class _DataSize:
    """Decompresses image data piece by piece, only to count it."""

    def __init__(self, expected: int) -> None:
        self.expected, self.count = expected, 0
        self._stream = zlib.decompressobj()

    def add(self, compressed: bytes) -> None:
        """Count the next piece. Raises ValueError if it is damaged or there is too much."""
        is_more = not self._stream.eof
        while is_more:
            # At most as much at a time as a piece has: a piece can expand a thousand times
            try:
                found = len(self._stream.decompress(compressed, _PIECE_BYTES))
            except zlib.error as error:
                raise ValueError(f"damaged PNG: {error}") from error
            self.count += found
            if self.count > self.expected:
                raise ValueError(f"PNG holds more than the {self.expected} bytes of its pixels")
            compressed = self._stream.unconsumed_tail
            # A full piece may leave more, even where all input is consumed
            is_more = bool(compressed) or found == _PIECE_BYTES

    def finish(self) -> None:
        """Raise ValueError if the data ended early."""
        if self.count != self.expected or not self._stream.eof:
            raise ValueError(f"PNG holds {self.count} of the {self.expected} bytes of its pixels")
