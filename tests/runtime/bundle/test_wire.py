"""The wire format: fields are found where they are, and what is not one message is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samrefine_runtime.bundle.wire import Field, WireError, fields, varint
from tests.onnx_bytes import field, key
from tests.onnx_bytes import varint as encoded

VALUES = st.integers(0, 2**64 - 1) | st.binary(max_size=300)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), VALUES), max_size=8), st.binary(max_size=5))
def test_fields_are_what_was_written(written: list[tuple[int, int | bytes]], before: bytes) -> None:
    data = before + b"".join(field(*each) for each in written)
    found = list(fields(data, len(before), len(data)))
    assert [each.number for each in found] == [number for number, _ in written]
    for each, (_, value) in zip(found, written, strict=True):
        if isinstance(value, int):
            assert each.wire_type == 0
            assert varint(data, each.start, each.end) == (value, each.end)
        else:
            assert each.wire_type == 2
            assert data[each.start : each.end] == value


@given(st.integers(0, 2**64 - 1), st.binary(max_size=5), st.binary(max_size=5))
def test_numbers_of_every_length(value: int, before: bytes, after: bytes) -> None:
    content = encoded(value)
    data = before + content + after
    end = len(before) + len(content)
    assert varint(data, len(before), len(data)) == (value, end)
    with pytest.raises(WireError):
        varint(data, len(before), end - 1)
    if len(content) > 1:
        with pytest.raises(WireError):
            varint(data, len(before), end, len(content) - 1)


def test_fixed_sizes_are_stepped_over() -> None:
    data = key(1, 1) + bytes(8) + key(2, 5) + bytes(4) + field(3, "x")
    assert list(fields(data, 0, len(data))) == [
        Field(1, 1, 1, 9),
        Field(2, 5, 10, 14),
        Field(3, 2, 16, 17),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x0a",
        b"\x0a\x05abc",
        b"\x08",
        b"\x08\x80",
        b"\x09" + bytes(7),
        b"\x0d" + bytes(3),
        b"\x00\x01",  # field 0
        b"\x02\x00",
        b"\x0b\x0c",  # a group
        b"\x0e",
        b"\x0f",
        b"\x08" + b"\x80" * 10 + b"\x01",
        b"\x88" + b"\x80" * 4 + b"\x00\x01",  # a tag of six bytes
        b"\xba\x80\x80\x80\x10\x00",  # a tag of 33 bits, of which 32 are field 7
        b"\x0a" + b"\x80" * 5 + b"\x00",  # a size of six bytes
        b"\x0a\xff\xff\xff\xff\x7f",
    ],
    ids=lambda data: data.hex(),
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(WireError):
        list(fields(data, 0, len(data)))
    # Nor where other bytes follow, which belong to another message
    with pytest.raises(WireError):
        list(fields(data + b"\x08\x01" * 20, 0, len(data)))


def test_longer_forms_of_tags_and_sizes() -> None:
    """No writer makes them, but all readers take them in the same way."""
    data = b"\xba\x80\x00" + b"\x83\x80\x00" + b"abc"
    assert list(fields(data, 0, len(data))) == [Field(7, 2, 6, 9)]
