"""The report's entries and the page made of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.errors import LabelError
from samrefine_runtime.evaluate import Evaluation, confusion_matrix
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report import ReportEntry, picture_side, write_report
from samrefine_runtime.report.pictures import LARGE_RUN
from samrefine_runtime.results import LabelResult

CLASSES = ("background", "cat", "dog")
SIZE = 60, 90


def image(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def labels(seed: int) -> NDArray[np.uint8]:
    """(H, W) uint8 of classes 0 to 2 in blocks."""
    blocks = np.random.default_rng(seed).integers(0, 3, (6, 9), dtype=np.uint8)
    return np.kron(blocks, np.ones((10, 10), np.uint8))


def result(seed: int = 0, pseudo: NDArray[np.uint8] | None = None) -> LabelResult:
    label = labels(seed)
    masks = Masks.from_dense(SIZE, [label == value for value in (1, 2)])
    maps = np.stack([label == 1, label == 2]).astype(np.float32)
    cam = CamResult(np.array([1, 2]), maps, 0.15, np.array([0.9, 0.7], np.float32), SIZE)
    pseudo = labels(seed + 100) if pseudo is None else pseudo
    return LabelResult(label, pseudo, cam, masks, {"cam": 0.5, "masks": 1.0})


def page_data(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)
    assert found, f"no {name} in the page"
    return json.loads(found.group(1))


def entry_files(folder: Path, entries: list[ReportEntry]) -> list[Path]:
    files = [folder / "report" / f"{index}.json" for index in range(len(entries))]
    for file, entry in zip(files, entries, strict=True):
        entry.write(file)
    return files


def with_change(image_id: str, changed: float) -> ReportEntry:
    return replace(ReportEntry.of(image_id, image(), result()), changed=changed)


def test_entry_survives_its_file(tmp_path: Path) -> None:
    truth = labels(3)
    truth[:5] = 255
    entry = ReportEntry.of("a", image(), result(), truth)
    entry.write(tmp_path / "a.json")
    read = ReportEntry.read(tmp_path / "a.json")
    assert json.dumps(read.to_json()) == json.dumps(entry.to_json())
    assert read.maps.keys() == {"cam", "masks", "pseudo_label", "label", "ground_truth"}


def test_figures_equal_those_of_evaluate() -> None:
    truth = labels(7)
    truth[20:30] = 255
    labelled = result()
    entry = ReportEntry.of("a", image(), labelled, truth)
    for miou, label in zip(entry.miou or (), (labelled.pseudo_label, labelled.label), strict=True):
        evaluation = Evaluation(confusion_matrix(label, truth, 3), 1, [], [])
        assert miou == pytest.approx(evaluation.miou)
    assert entry.changed == pytest.approx(np.mean(labelled.pseudo_label != labelled.label))


def test_ground_truth_without_any_class_gives_no_score() -> None:
    entry = ReportEntry.of("a", image(), result(), np.full(SIZE, 255, np.uint8))
    assert entry.miou is None


def test_ground_truth_of_another_size_is_refused() -> None:
    with pytest.raises(LabelError, match=r"90 x 60"):
        ReportEntry.of("a", image(), result(), np.zeros((5, 7), np.uint8))


def test_identity_is_that_of_the_label() -> None:
    first = ReportEntry.of("a", image(), result())
    assert len(first.identity) == 16
    assert ReportEntry.of("a", image(1), result(), labels(3), side=100).identity == first.identity
    assert ReportEntry.of("b", image(), result()).identity != first.identity
    assert ReportEntry.of("a", image(), result(seed=1)).identity != first.identity


def test_more_images_get_smaller_pictures() -> None:
    assert picture_side(LARGE_RUN) > picture_side(LARGE_RUN + 1)


def test_page_puts_the_largest_disagreement_first(tmp_path: Path) -> None:
    partial = ReportEntry.of_label("partial", image(), labels(0))
    entries = [with_change("a", 0.1), partial, with_change("b", 0.9), with_change("c", 0.5)]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    page = (tmp_path / "report.html").read_text()
    assert [row["id"] for row in page_data(page, "report")["images"]] == ["b", "c", "a", "partial"]
    assert page_data(page, "image-0")["image_id"] == "b"
    assert page_data(page, "image-3")["maps"].keys() == {"label"}


def test_page_scores_all_images_together(tmp_path: Path) -> None:
    truths = [labels(20), labels(21)]
    results = [result(0), result(1)]
    pairs = list(zip(results, truths, strict=True))
    entries = [ReportEntry.of(str(i), image(), *pair) for i, pair in enumerate(pairs)]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    matrix = sum(confusion_matrix(one.label, truth, 3) for one, truth in pairs)
    evaluation = Evaluation(np.asarray(matrix), 2, [], [])
    page = (tmp_path / "report.html").read_text()
    assert f"<dd>{100 * evaluation.miou:.1f}<small>" in page
    for iou in evaluation.iou:
        assert f"<td>{100 * iou:.1f}</td>" in page


def test_page_without_ground_truth_shows_shares(tmp_path: Path) -> None:
    entries = [ReportEntry.of("a", image(), result())]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    page = (tmp_path / "report.html").read_text()
    assert "mIoU before" not in page
    assert f"<td>{100 * np.mean(result().label == 2):.1f}</td>" in page
    assert "ground_truth" not in page_data(page, "report")["layers"]


def test_page_keeps_its_size_and_says_so(tmp_path: Path) -> None:
    files = entry_files(tmp_path, [with_change(str(index), index / 10) for index in range(8)])
    budget = 3 * files[0].stat().st_size + 100
    write_report(tmp_path / "report.html", files, CLASSES, max_bytes=budget)
    page = (tmp_path / "report.html").read_text()
    assert [row["id"] for row in page_data(page, "report")["images"]] == ["7", "6", "5"]
    assert 'id="image-3"' not in page
    assert "The 3 images that changed most" in page
    assert "<dd>8</dd>" in page


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>\u2028\"'&amp;<!--"
    classes = ("background", f"<b>{name}", "half a pair \ud800 <!-- images -->\n")
    entries = [ReportEntry.of(name + "\udcff", image(), result())]
    files = entry_files(tmp_path, entries)
    write_report(tmp_path / "report.html", files, classes, title=f"$title {name}")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "<b>" not in page.split("<table>")[1].split("</table>")[0]
    assert page_data(page, "report")["images"][0]["id"] == name + "\udcff"
    assert page_data(page, "image-0")["image_id"] == name + "\udcff"


def test_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    entries = [ReportEntry.of("a", image(), result())]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    page = (tmp_path / "report.html").read_text()
    assert "://" not in page
    assert "default-src 'none'" in page


def test_links_are_relative_to_where_the_page_will_lie(tmp_path: Path) -> None:
    names = ("plain", "with space #1%", "javascript:alert(1)", "gone", "unknown")
    entries = [ReportEntry.of(name, image(), result()) for name in names]
    files = {name: tmp_path / "photos" / f"{name}.jpg" for name in names[:-1]}
    inside = {name: tmp_path / "out" / f"{name}.png" for name in names}
    for file in [*list(files.values())[:-1], *inside.values()]:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    write_report(
        tmp_path / "staging" / "report.html", entry_files(tmp_path, entries), CLASSES,
        image_files=files, label_files=inside, home=tmp_path / "out",
    )  # fmt: skip
    page = (tmp_path / "staging" / "report.html").read_text()
    rows = {row["id"]: row for row in page_data(page, "report")["images"]}
    assert {name: row["image_link"] for name, row in rows.items()} == {
        "plain": "../photos/plain.jpg",
        "with space #1%": "../photos/with%20space%20%231%25.jpg",
        "javascript:alert(1)": "../photos/javascript%3Aalert%281%29.jpg",
        "gone": None,
        "unknown": None,
    }
    assert rows["javascript:alert(1)"]["label_link"] == "javascript%3Aalert%281%29.png"
    assert str(tmp_path) not in page


@pytest.mark.parametrize("other", [("title", CLASSES), ("Labelled images", ("background", "cat"))])
def test_decisions_are_kept_for_reports_of_one_kind(
    tmp_path: Path, other: tuple[str, tuple[str, ...]]
) -> None:
    files = entry_files(tmp_path, [with_change("a", 0.5), with_change("b", 0.4)])

    def identity(count: int, title: str, classes: tuple[str, ...]) -> str:
        write_report(tmp_path / "report.html", files[:count], classes, title=title)
        data = page_data((tmp_path / "report.html").read_text(), "report")
        return str(data["identity"])

    own = identity(1, "Labelled images", CLASSES)
    assert identity(2, "Labelled images", CLASSES) == own
    assert identity(1, *other) != own


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 3, "pixels": 3}'])
def test_damaged_entry_names_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(LabelError, match=r"a\.json"):
        ReportEntry.read(file)


def test_failure_leaves_the_old_page(tmp_path: Path) -> None:
    files = entry_files(tmp_path, [with_change("a", 0.5)])
    write_report(tmp_path / "report.html", files, CLASSES)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(LabelError):
        write_report(tmp_path / "report.html", [*files, tmp_path / "missing.json"], CLASSES)
    assert (tmp_path / "report.html").read_bytes() == before
