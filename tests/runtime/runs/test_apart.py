"""Outputs and inputs are kept in different places."""

from __future__ import annotations

from pathlib import Path

import pytest

from samrefine_runtime.errors import SettingsError
from samrefine_runtime.runs import check_apart


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    return folder


@pytest.mark.parametrize("out", ["out", "data/labels", "data/images-labels", "new/deep/out"])
def test_beside_the_inputs(out: str, images: Path, tmp_path: Path) -> None:
    check_apart(tmp_path / out, [images, images / "a.png", tmp_path / "missing"])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("data/images", "is an input"),
        ("data/images/", "is an input"),
        ("data/images/../images", "is an input"),
        ("data/images/labels", "lies inside the input"),
        ("data/images/new/labels", "lies inside the input"),
        ("data", "holds the input"),
        (".", "holds the input"),
        ("link", "is an input"),
        ("link/labels", "lies inside the input"),
    ],
)
def test_at_inside_and_around_an_input(
    out: str, message: str, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(images)
    with pytest.raises(SettingsError, match=f"{message}.*choose another output folder"):
        check_apart(tmp_path / out, [images])


def test_around_a_single_file(images: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds the input .*a\.png"):
        check_apart(images, [images / "a.png"])
    check_apart(images / "labels", [images / "a.png"])


def test_an_input_through_a_link(images: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(images)
    with pytest.raises(SettingsError, match="is an input"):
        check_apart(images, [tmp_path / "link"])
