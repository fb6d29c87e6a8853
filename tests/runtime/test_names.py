"""How outputs are named after images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.names import ByImage, file_name, image_id, listed_id


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


def test_folders_below_a_root_are_part_of_the_id() -> None:
    assert image_id("photos/cats/1.jpg", "photos") == "cats/1"
    assert image_id(Path("photos/1.jpg"), Path("photos")) == "1"
    long = image_id(f"photos/{'x' * 249}/1.jpg", "photos")
    assert len(os.fsencode(long)) == 242


def test_file_names_keep_the_folders_of_the_id() -> None:
    assert file_name("cats/1", Path("/photos/cats/1.JPG")) == "cats/1.JPG"
    assert file_name("1", Path("/photos/cats/1.jpg")) == "1.jpg"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a"),
        ("a.b", "a.b"),
        (" cats\\a.JPG ", "cats/a"),
        ("/home/u/a.jpg", "home/u/a"),
        ("./../cats/a.jpg", "cats/a"),
    ],
)
def test_ids_of_listed_names(name: str, expected: str) -> None:
    assert listed_id(name, {".jpg"}) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("1", None),  # of cats, of dogs, or of birds
        ("cats/1", "c"),
        ("train/cats/1", "c"),
        ("birds/1", "b"),
        ("train/birds/1", "tb"),
        ("val/birds/1", "b"),
        ("2", "two"),
        ("cats/2", "two"),
        ("s/1", None),
        ("3", None),
    ],
)
def test_lists_may_name_more_or_fewer_folders(image: str, expected: str | None) -> None:
    listed = {"cats/1": "c", "dogs/1": "d", "birds/1": "b", "train/birds/1": "tb", "2": "two"}
    found = ByImage(listed)
    assert found.get(image) == expected
    assert (image in found) == (expected is not None)
    assert dict(found) == listed


@settings(deadline=None)
@given(st.dictionaries(st.text("ab/", min_size=1, max_size=5), st.integers(), min_size=1))
def test_what_is_listed_is_found_by_its_own_name(listed: dict[str, int]) -> None:
    assert all(ByImage(listed)[name] == value for name, value in listed.items())
