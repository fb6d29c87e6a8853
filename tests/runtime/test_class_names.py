"""Lists of class names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samrefine_runtime.class_names import (
    are_voc,
    classes_of,
    numbered,
    read_classes,
    write_classes,
)
from samrefine_runtime.errors import SettingsError


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\ntram\n",
        "cat\r\n dog \r\n\r\ntram",
        '["cat", "dog", "tram"]',
        "\ufeffcat\ndog\ntram",
    ],
)
def test_lines_or_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / "c") == ("cat", "dog", "tram")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 classes"),
        ("cat\ncat\n", "'cat' more than once"),
        ('["cat", 3]', "not a list of class names"),
        ('["cat"', "not a valid JSON list"),
        ("\n".join(map(str, range(255))), "255 classes, expected 1 to 254"),
    ],
)
def test_unusable(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_classes(tmp_path / "c")


def test_missing_or_binary(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("none", "binary"):
        with pytest.raises(SettingsError, match="cannot read"):
            read_classes(tmp_path / name)


@pytest.mark.parametrize("background", ["background", "_background_", "__background__"])
def test_the_background_may_be_named_first(background: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(f"{background}\ncat\n")
    assert read_classes(tmp_path / "c") == ("cat",)
    assert classes_of([background, "cat"]) == ("cat",)
    assert classes_of(["cat", background]) == ("cat", background)


NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name == name.strip()
)


@settings(deadline=None)
@given(st.lists(NAME, min_size=1, max_size=9, unique=True))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "classes.txt"
    write_classes(path, ["background", *names])
    assert read_classes(path) == tuple(names)


def test_names_of_voc_images() -> None:
    assert are_voc(["2007_000063", "train/2012_004331"])
    assert not are_voc(["2007_000063", "a"])
    assert not are_voc(["2013_000063"])
    assert not are_voc([])
    assert numbered(3) == ("class 1", "class 2")
