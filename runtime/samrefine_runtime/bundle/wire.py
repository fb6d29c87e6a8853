"""The wire format of protocol buffers, of which an .onnx file consists: where its fields lie.

Only a walk over fields, so that graphs can be looked at before an inference engine reads them, and
without the onnx package. Nothing is copied: weights are stepped over. Where engines may read the
same bytes in different ways, this reader refuses them.
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

Buffer = bytes | mmap.mmap

VARINT, LENGTH = 0, 2
"""Wire types that callers tell apart: a number, and bytes of a given length."""

_FIXED_BYTES = {1: 8, 5: 4}
"""Bytes of the values of wire types that have a fixed size."""

_TAG_BYTES = _SIZE_BYTES = 5
"""Longest varint of a tag or a size, which have 32 bits."""

_VALUE_BYTES = 10
"""Longest varint of a value, which has 64 bits."""


class WireError(ValueError):
    """Bytes are no protocol buffer, or one that readers understand differently."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    start: int
    """Position of the value's first byte."""
    end: int
    """Position after the value's last byte."""


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message at data[start:end], unknown ones too.

    Raises:
        WireError: the bytes are no message. Groups, which no writer of ONNX makes, are none here.
    """
    position = start
    while position < end:
        tag, position = varint(data, position, end, _TAG_BYTES)
        wire_type, first = tag & 7, position
        if wire_type == LENGTH:
            size, first = varint(data, position, end, _SIZE_BYTES)
            position = first + size
        elif wire_type == VARINT:
            position = _after_varint(data, position, end)
        elif wire_type in _FIXED_BYTES:
            position += _FIXED_BYTES[wire_type]
        else:
            raise WireError(f"wire type {wire_type} at byte {first}")
        # Readers of 32 bits would cut a larger tag down to that of another field
        if position > end or not 8 <= tag < 1 << 32:
            raise WireError(f"a field at byte {first} that does not fit")
        yield Field(tag >> 3, wire_type, first, position)


def varint(data: Buffer, start: int, end: int, most: int = _VALUE_BYTES) -> tuple[int, int]:
    """Return the number that starts at a byte, and the position after it.

    Raises:
        WireError: it does not end before `end` or within `most` bytes.
    """
    # Most tags and sizes are one byte
    if start < end and data[start] < 0x80:
        return data[start], start + 1
    stop = _after_varint(data, start, min(end, start + most))
    value = 0
    # The lowest seven bits come first
    for position in range(stop - 1, start - 1, -1):
        value = value << 7 | data[position] & 0x7F
    return value, stop


def _after_varint(data: Buffer, start: int, end: int) -> int:
    """Return the position after the number that starts at a byte. Raises WireError."""
    for position in range(start, min(end, start + _VALUE_BYTES)):
        if data[position] < 0x80:
            return position + 1
    raise WireError(f"a number at byte {start} that does not end")
