"""Lists of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from samrefine_runtime.errors import InputError
from samrefine_runtime.formats.image_list import read_image_list


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a.jpg\n\n# a comment\n b c.jpg \r\na.jpg\n"),
        ("l", "\ufeffa.jpg\nb c.jpg"),
        ("l.csv", 'image,decision,note\na.jpg,accept,\nb c.jpg,reject,"x, y\nz"\n'),
        ("l.CSV", "decision, Image \n,a.jpg\nreject,b c.jpg\n,\n"),
        ("l.csv", "a.jpg,1\nb c.jpg\n"),
    ],
)
def test_lists(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_image_list(tmp_path / name) == ["a.jpg", "b c.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"", "lists no images"),
        ("l.csv", b"image\n", "lists no images"),
        ("l.csv", b'image\n"a', "not a list of images"),
        ("l.txt", b"\xff\xfe", "not a list of images"),
    ],
)
def test_unusable_lists(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_image_list(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_image_list(tmp_path / "l.txt")
    with pytest.raises(InputError, match="a folder, expected a file"):
        read_image_list(tmp_path)
