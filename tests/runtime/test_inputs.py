"""What an input file may be, and how large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samrefine_runtime.errors import ImageError, MaskFileError, SettingsError
from samrefine_runtime.inputs import (
    MAX_MEGABYTES,
    MAX_MEGAPIXELS,
    check_file,
    check_pixels,
    read_bytes,
)


def make(folder: Path, kind: str) -> Path:
    path = folder / "x.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("gone.jpg")
    elif kind == "loop of links":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "in a file":
        path.touch()
        return path / "y.jpg"
    elif kind == "long name":
        return folder / ("x" * 300)
    elif kind == "null character":
        return Path(f"{folder}/x\0.jpg")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "no such file"),
        ("folder", "a folder, expected a file"),
        ("dangling link", r"a link to gone\.jpg, which does not exist"),
        ("loop of links", "cannot be read"),
        ("pipe", "no regular file, expected a file"),
        ("in a file", "cannot be read"),
        ("long name", "cannot be read"),
        ("null character", "cannot be read"),
    ],
)
def test_what_is_no_file_is_said(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        check_file(make(tmp_path, kind), ImageError)


def test_links_to_files_are_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").symlink_to("a")
    check_file(tmp_path / "b", ImageError)
    assert read_bytes(tmp_path / "b", ImageError) == b"1"


def test_files_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_MEGABYTES.variable, "1")
    path = tmp_path / "a.json"
    path.write_bytes(bytes(1_000_000))
    assert len(read_bytes(path, MaskFileError)) == 1_000_000
    # A sparse file, which takes no place on the disk
    os.truncate(path, 3_500_000_000)
    message = "3500 megabytes, the limit is 1; SAMREFINE_MAX_MEGABYTES=3500 in the environment"
    with pytest.raises(MaskFileError, match=message):
        read_bytes(path, MaskFileError)


@pytest.mark.parametrize(
    ("image_shape", "variable", "message"),
    [
        ((12_000, 9_000), None, None),
        ((13_000, 13_000), None, r"13000 x 13000 pixels are 169 megapixels, the limit is 128; "),
        ((13_000, 13_000), "168", "SAMREFINE_MAX_MEGAPIXELS=169 in the environment raises it"),
        ((13_000, 13_000), "169", None),
        ((1, 1_000_001), "1", "1000001 x 1 pixels are 2 megapixels, the limit is 1"),
        # Run lengths of more pixels do not fit: nothing raises this
        ((10**9, 10**9), "2147", "1000000000000 megapixels, the limit is 2147$"),
    ],
)
def test_pixels_are_limited(
    image_shape: tuple[int, int],
    variable: str | None,
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv(MAX_MEGAPIXELS.variable, variable)
    if message is None:
        check_pixels(image_shape)
        return
    with pytest.raises(ValueError, match=message):
        check_pixels(image_shape)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "12.5", "nan", "2148", "9" * 5000, "١"])
def test_a_limit_that_is_none_is_said(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_MEGAPIXELS.variable, text)
    with pytest.raises(SettingsError, match=r"MAX_MEGAPIXELS is .*expected a whole number from 1"):
        check_pixels((1, 1))
