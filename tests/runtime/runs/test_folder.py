"""What is done stays done, what is ours may be replaced, and nothing else is ever touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.errors import ImageError, OutputError, RunError, StorageError
from samrefine_runtime.runs import HIDDEN, IMAGE, SPANNING, OutputFolder, RunRecord, Task

RECORD = RunRecord("label", "b" * 64, {"min_trust": 0.87, "prompts": "guided"})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"image")
    return path


def task(image: Path, *kinds: str, **more: Any) -> Task:
    return Task(IMAGE + image.stem, str(image), kinds or ("voc",), files={"image": image}, **more)


def opened(out: Path, record: RunRecord = RECORD, *, overwrites: bool = False) -> OutputFolder:
    return OutputFolder(out, record, "0.1.0", overwrites=overwrites)


def write(folder: OutputFolder, task: Task, **files: str) -> None:
    """Write files of a task; "__" stands for the slash in their names."""
    with folder.stage(task, task.glances()) as staging:
        for name, content in files.items():
            path = staging / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def written(out: Path) -> dict[str, str]:
    paths = [path for path in out.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_text()
        for path in paths
        if path.relative_to(out).parts[0] != HIDDEN
    }


def test_what_was_made_of_the_same_is_not_missing(out: Path, image: Path) -> None:
    with opened(out) as folder:
        assert folder.missing(task(image)) == ("voc",)
        write(folder, task(image), voc__a="label")
        assert folder.missing(task(image)) == ()
    with opened(out) as folder:
        assert folder.missing(task(image)) == ()
    assert written(out) == {"voc/a": "label"}


def replace_image(out: Path, image: Path) -> None:
    image.write_bytes(b"other")


def lose_output(out: Path, image: Path) -> None:
    (out / "voc" / "a").unlink()


def empty_output(out: Path, image: Path) -> None:
    (out / "voc" / "a").write_bytes(b"")


def change_output(out: Path, image: Path) -> None:
    (out / "voc" / "a").write_text("mine!")
    os.utime(out / "voc" / "a", ns=(1, 1))


def lose_image(out: Path, image: Path) -> None:
    image.unlink()


@pytest.mark.parametrize(
    "change", [replace_image, lose_output, empty_output, change_output, lose_image]
)
def test_what_has_changed_is_missing(
    change: Callable[[Path, Path], None], out: Path, image: Path
) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    change(out, image)
    with opened(out) as folder:
        assert folder.missing(task(image)) == ("voc",)


def test_what_was_given_is_part_of_it(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image, given=["cat"]), voc__a="label")
        assert folder.missing(task(image, given=["cat"])) == ()
        assert folder.missing(task(image, given=["dog"])) == ("voc",)
        assert folder.missing(task(image, given=None)) == ("voc",)


def test_a_copied_folder_and_a_touched_image_are_the_same(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    for path in (image, out / "voc" / "a"):
        os.utime(path, ns=(1, 1))
    with opened(out) as folder:
        assert folder.missing(task(image)) == ()


def test_a_folder_of_masks_is_an_input(out: Path, image: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "0.png").write_bytes(b"mask")
    work = Task("image/a", "a", ("voc",), files={"masks": masks})
    with opened(out) as folder:
        write(folder, work, a="label")
        assert folder.missing(work) == ()
        (masks / "1.png").write_bytes(b"mask")
        assert folder.missing(work) == ("voc",)


def test_derived_kinds_are_missing_alone(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image, "voc"), voc__a="label")
        wanted = task(image, "voc", "yolo", derived=("yolo",))
        assert folder.missing(wanted) == ("yolo",)
        assert folder.missing(task(image, "voc", "yolo")) == ("voc", "yolo")
        with folder.stage(wanted, wanted.glances(), adds=True) as staging:
            (staging / "yolo").write_text("polygon")
        assert folder.missing(wanted) == ()
    assert written(out) == {"voc/a": "label", "yolo": "polygon"}


def test_outputs_that_are_made_no_more_are_removed(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), masks__a__0="0", masks__a__1="1", masks__b="b")
        (out / "masks" / "notes.txt").write_text("mine")
        write(folder, task(image), voc__a="label")
    assert written(out) == {"voc/a": "label", "masks/notes.txt": "mine"}
    assert not (out / "masks" / "a").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_not_ours_is_never_replaced(
    kind: str, out: Path, image: Path, tmp_path: Path
) -> None:
    place = out / "voc" / "a"
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    else:
        place.symlink_to(image if kind == "link" else tmp_path / "missing")
    with opened(out, overwrites=True) as folder, pytest.raises(OutputError, match="in the way"):
        write(folder, task(image), voc__a="label", voc__b="b")
    assert not (out / "voc" / "b").exists()
    assert image.read_bytes() == b"image"
    assert place.is_symlink() or "mine" in written(out).values()


def test_what_a_user_changed_is_kept(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    (out / "voc" / "a").write_text("corrected")
    with opened(out) as folder, pytest.raises(OutputError, match="was changed after it was writ"):
        write(folder, task(image), voc__a="label")
    assert written(out) == {"voc/a": "corrected"}
    with opened(out, overwrites=True) as folder:
        write(folder, task(image), voc__a="label")
    assert written(out) == {"voc/a": "label"}
    kept = [path for path in (out / HIDDEN / "kept").rglob("*") if path.is_file()]
    assert [path.read_text() for path in kept] == ["corrected"]


def test_another_run_needs_leave_to_go_on(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    other = RunRecord("label", "c" * 64, {"min_trust": 0.5, "prompts": "guided"})
    with pytest.raises(RunError) as caught:
        opened(out, other)
    assert "bundle bbbbbbbbbbbb, now cccccccccccc; min_trust 0.87, now 0.5" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    with opened(out, other, overwrites=True) as folder:
        assert folder.missing(task(image)) == ("voc",)
        write(folder, task(image), voc__a="new")
    with opened(out, other) as folder:
        assert folder.missing(task(image)) == ()
    with pytest.raises(RunError, match=r"min_trust 0\.5, now 0\.87"):
        opened(out)


def test_another_command_needs_another_folder(out: Path) -> None:
    opened(out).close()
    with pytest.raises(RunError, match="holds what `samrefine label` wrote"):
        opened(out, RunRecord("masks", None), overwrites=True)


def test_two_runs_at_once_are_noticed(out: Path) -> None:
    with opened(out), pytest.raises(RunError, match="another run is writing"):
        opened(out)
    opened(out).close()


def test_a_later_format_is_not_guessed_at(out: Path) -> None:
    opened(out).close()
    journal = out / HIDDEN / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(RunError, match="version 2"):
        opened(out)


def test_a_run_killed_between_two_outputs_is_done_again(
    out: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="old", yolo__a="old", old__a="old")
    image.write_bytes(b"other")
    replace, moved = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with opened(out) as folder, pytest.raises(KeyboardInterrupt):
        write(folder, task(image), voc__a="new", yolo__a="new")
    monkeypatch.undo()
    assert written(out) == {"voc/a": "new", "yolo/a": "old", "old/a": "old"}
    with opened(out) as folder:
        assert folder.missing(task(image)) == ("voc",)
        write(folder, task(image), voc__a="new", yolo__a="new")
        assert folder.missing(task(image)) == ()
    assert written(out) == {"voc/a": "new", "yolo/a": "new"}


def test_what_a_killed_run_staged_is_swept(out: Path) -> None:
    opened(out).close()
    (out / HIDDEN / "staging" / "voc").mkdir(parents=True)
    (out / HIDDEN / "staging" / "voc" / "a.png").write_text("half")
    opened(out).close()
    assert not (out / HIDDEN / "staging").exists()


def test_an_image_that_changes_while_it_is_worked_on(out: Path, image: Path) -> None:
    seen = task(image).glances()
    image.write_bytes(b"replaced")
    with (
        opened(out) as folder,
        pytest.raises(ImageError, match="changed while"),
        folder.stage(task(image), seen) as staging,
    ):
        (staging / "a").write_text("of which?")
    assert written(out) == {}


def test_an_image_that_vanishes_while_it_is_worked_on(out: Path, image: Path) -> None:
    seen = task(image).glances()
    image.unlink()
    with (
        opened(out) as folder,
        pytest.raises(ImageError, match="cannot be read any more"),
        folder.stage(task(image), seen) as staging,
    ):
        (staging / "a").write_text("of what?")


def test_failures_are_known_until_they_are_mended(out: Path, image: Path) -> None:
    with opened(out) as folder:
        folder.fail(task(image), ImageError("broken"), "broken")
    with opened(out) as folder:
        assert [each.message for each in folder.failures.values()] == ["broken"]
        assert folder.missing(task(image)) == ("voc",)
        write(folder, task(image), voc__a="label")
        assert not folder.failures
    with opened(out) as folder:
        assert not folder.failures


def test_a_failed_image_keeps_no_label_of_another(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
        folder.fail(task(image), MemoryError(), "out of memory")
        assert written(out) == {"voc/a": "label"}, "the label is still that of this image"
        image.write_bytes(b"broken")
        folder.fail(task(image), ImageError("broken"), "broken")
    assert written(out) == {}


def test_an_image_out_of_reach_keeps_its_label(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
        image.unlink()
        folder.fail(task(image), ImageError("no such file"), "no such file")
    assert written(out) == {"voc/a": "label"}


def test_files_that_span_all_images_follow_them(out: Path, image: Path) -> None:
    def span(folder: OutputFolder, given: str) -> None:
        folder.span("coco", given, lambda staging: (staging / "coco.json").write_text(given))

    with opened(out) as folder:
        span(folder, "one")
        before = (out / "coco.json").stat().st_mtime_ns
        span(folder, "one")
        assert (out / "coco.json").stat().st_mtime_ns == before
        span(folder, "two")
    assert written(out) == {"coco.json": "two"}
    with opened(out, RunRecord("label", None), overwrites=True) as folder:
        folder.sweep()
    assert written(out) == {}


def test_a_file_that_is_not_needed_any_more_goes(out: Path) -> None:
    with opened(out) as folder:
        folder.span("failures", 1, lambda staging: (staging / "failures").write_text("a"))
        folder.span("failures", 0, lambda staging: None)
        folder.span("never", 0, lambda staging: None)
        assert folder.done(SPANNING) == ["all/failures"]
    assert written(out) == {}


@pytest.mark.parametrize("at", ["../mine.txt", "/etc/passwd", "voc/../../mine.txt"])
def test_a_journal_leads_nowhere_else(at: str, out: Path, image: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("label")
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    journal = out / HIDDEN / "journal.jsonl"
    journal.write_text(journal.read_text().replace("voc/a", at))
    with opened(out, overwrites=True) as folder:
        assert folder.done(IMAGE) == []
        image.write_bytes(b"broken")
        folder.fail(task(image), ImageError("broken"), "broken")
    assert mine.read_text() == "label"


def test_errors_name_the_output_and_not_where_it_is_staged(out: Path, image: Path) -> None:
    with (
        opened(out) as folder,
        pytest.raises(OutputError) as caught,
        folder.stage(task(image), task(image).glances()) as staging,
    ):
        raise OutputError(f"{staging / 'voc' / 'a.png'}: cannot be written")
    assert str(caught.value) == f"{out / 'voc' / 'a.png'}: cannot be written"


def test_a_full_disk_stays_a_full_disk(out: Path, image: Path) -> None:
    with (
        opened(out) as folder,
        pytest.raises(StorageError),
        folder.stage(task(image), task(image).glances()),
    ):
        raise StorageError("no space left")


def test_the_journal_is_appended_to(out: Path, image: Path) -> None:
    with opened(out) as folder:
        write(folder, task(image), voc__a="label")
    lines = (out / HIDDEN / "journal.jsonl").read_text().splitlines()
    record, entry = map(json.loads, lines)
    assert record == {
        "format": "samrefine-run", "version": 1, "samrefine": "0.1.0", "run": RECORD.to_json()
    }  # fmt: skip
    assert entry["task"] == "image/a"
    assert entry["outputs"].keys() == {"voc/a"}
