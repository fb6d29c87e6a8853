"""How messages describe a value: one short line, whatever it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samrefine_runtime.checks import described

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=500)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=400), inner)
)


@given(VALUES)
def test_a_description_is_one_short_line(value: object) -> None:
    text = described(value)
    assert text.isprintable() and 0 < len(text) <= 303


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("a\nb", r"'a\nb'"),
        (Path("a/b"), "PosixPath('a/b')"),
        (np.zeros((2, 3), np.float32), "(2, 3) float32"),
        (10**5000, "a int"),
        (np.random.default_rng(0), "a Generator"),
        ([["x" * 100] * 9] * 9, None),
        ({f"{n}" * 100: {"y" * 100: ["z" * 100] * 3} for n in range(4)}, None),
    ],
    ids=range(8),
)
def test_descriptions(value: object, text: str | None) -> None:
    if text is None:
        assert len(described(value)) == 303 and described(value).endswith("...")
    else:
        assert described(value) == text
