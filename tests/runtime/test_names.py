"""How outputs are named after images."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from samrefine_runtime.names import image_id


def test_ids_are_names_without_suffix() -> None:
    assert image_id("photos/2007_000063.jpg") == "2007_000063"
    assert image_id(Path("a.b.png")) == "a.b"


@given(st.text("aé日🙂", min_size=1, max_size=251))
def test_the_name_of_every_output_fits_a_file_system(stem: str) -> None:
    name = image_id(f"{stem}.jpg")
    assert len(os.fsencode(name)) <= 240
    assert name == stem or len(os.fsencode(stem)) > 240


def test_two_long_names_stay_two() -> None:
    first, second = (image_id(f"{'x' * 249}{last}.jpg") for last in "ab")
    assert first != second
    assert first.startswith("x" * 200)
