"""Files of folders of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from samrefine_runtime.listing import files_in, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.PNG", "z/c.png", "d/e/f.png", "d/x.txt", ".h/g.png", "d/.i.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "r" / ".samrefine").mkdir(parents=True)
    (tmp_path / "r" / "k.png").write_text("")
    return tmp_path


def relative(paths: list[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]


def test_files_come_before_folders_in_order(folder: Path) -> None:
    assert relative(files_in(folder, {".png"}), folder) == [
        "a.PNG", "b.png", "d/e/f.png", "z/c.png",
    ]  # fmt: skip


def test_reasons(folder: Path) -> None:
    found = {str(path.relative_to(folder)): reason for path, reason in walk(folder, {".png"})}
    assert {name: reason for name, reason in found.items() if reason} == {
        ".h": "hidden",
        "d/.i.png": "hidden",
        "d/x.txt": "of other types",
        "r": "holding results",
    }


def test_a_folder_given_is_looked_into_whatever_it_is(folder: Path) -> None:
    assert relative(files_in(folder / ".h", {".png"}), folder) == [".h/g.png"]
    assert relative(files_in(folder / "r", {".png"}), folder) == ["r/k.png"]


def test_loops_end(folder: Path) -> None:
    (folder / "z" / "up").symlink_to(folder)
    (folder / "z" / "gone.png").symlink_to(folder / "nowhere")
    assert len(files_in(folder, {".png"})) == 5
    assert dict(walk(folder / "nowhere", {".png"})) == {folder / "nowhere": "not readable"}
