"""Values that are passed by mistake, and what the error about them must say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NAN = float("nan")

WRONG: Mapping[str, Any] = {
    "none": None,
    "whole": 5,
    "negative": -1,
    "number": 2.5,
    "nan": NAN,
    "true": True,
    "huge": 10**5000,
    "text": "nonsense",
    "empty text": "",
    "null": "a\0b",
    "bytes": b"nonsense",
    "empty list": [],
    "texts": ["nonsense"],
    "ragged": [[1], [1, 2]],
    "nones": [None, None],
    "empty dict": {},
    "dict": {"nonsense": 1},
    "keyless": {1: 2},
    "object": object(),
    "function": lambda *_: None,
    "scalar array": np.array(1.0),
    "object array": np.array(["a", 1], object),
    "text array": np.array(["a", "b"]),
    "empty array": np.zeros(0),
    "nan array": np.full((2, 2), NAN),
    "rank 4": np.zeros((1, 2, 3, 4)),
    "complex": np.zeros((4, 5, 3), complex),
}
"""What can be passed by mistake, whatever is meant."""


@dataclass(frozen=True)
class Kind:
    """A kind of argument."""

    natural: tuple[str, ...] = ()
    """Names in WRONG of values that are of this kind after all."""
    more: tuple[Any, ...] = ()
    """Further wrong values."""


PATH = Kind(("text",))


def wrong_values(kind: Kind) -> Iterator[tuple[str | int, Any]]:
    """Yield the name and the value of everything that is not of a kind."""
    for name, value in WRONG.items():
        if name not in kind.natural:
            yield name, value
    yield from enumerate(kind.more)


def assert_says_what_is_expected(error: Exception, parameter: str) -> None:
    """Assert that a message names the parameter, or the setting or graph in it, on one line."""
    message = str(error)
    named = (parameter, parameter.replace("_", " "), "unknown setting", "has no")
    assert any(name in message for name in named), message
    assert re.search("expected|did you mean|known are|it has", message), message
    assert message.isprintable() and len(message) < 500
