"""What is printed of strangers' texts."""

from __future__ import annotations

import pytest

from samrefine_runtime.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat 7 é 日本 🙂.jpg", "cat 7 é 日本 🙂.jpg"),
        ("a\nError: b", "a\\nError: b"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        # A byte of a file name that is no UTF-8, and a character that turns the writing direction
        ("\udcff\u202ecat", "\\udcff\\u202ecat"),
        (7, "7"),
    ],
)
def test_control_characters_are_escaped(text: object, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()
