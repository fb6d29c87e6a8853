"""The report's entries and the page made of them."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime.cam import CamResult
from samrefine_runtime.errors import LabelError
from samrefine_runtime.evaluate import Evaluation, confusion_matrix
from samrefine_runtime.labels import PALETTE
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report import ReportEntry, picture_side, write_report
from samrefine_runtime.report.overlay import distinct_colours
from samrefine_runtime.report.pictures import HALF, LARGE_RUN, label_picture, mask_picture
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


def pixels_of(uri: str) -> NDArray[np.uint8]:
    data = base64.b64decode(uri.split(",", 1)[1])
    return np.array(Image.open(io.BytesIO(data)))


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
    assert read.pictures.keys() == {
        "image", "cam", "masks", "pseudo_label", "label", "ground_truth",
    }  # fmt: skip


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


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (333, 700), (700, 333)])
def test_pictures_of_any_shape_are_small_and_keep_it(size: tuple[int, int]) -> None:
    label = np.zeros(size, np.uint8)
    label[: size[0] // 2 + 1] = 2
    small = pixels_of(label_picture(label, 100))
    assert max(small.shape) <= 100
    assert tuple(small[0, 0, :3]) in {tuple(PALETTE[2]), (255, 255, 255)}


def test_label_picture_tints_outlines_and_stripes() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[:, 10:20] = 1
    label[:, 30:] = 255
    small = pixels_of(label_picture(label, 320))
    assert tuple(small[5, 15]) == (*PALETTE[1], HALF)
    assert tuple(small[5, 9]) == tuple(small[5, 19]) == (255, 255, 255, 255)
    assert small[5, 5, 3] == 0
    assert len(np.unique(small[:, 33:].reshape(-1, 4), axis=0)) == 2


def test_mask_picture_has_small_masks_on_top() -> None:
    large, little = np.zeros((2, *SIZE), bool)
    large[5:50, 5:80] = True
    little[20:40, 20:40] = True
    small = pixels_of(mask_picture(Masks.from_dense(SIZE, [little, large]), 320))
    colours = distinct_colours(2)
    assert tuple(small[30, 30, :3]) == tuple(colours[1])
    assert tuple(small[10, 10, :3]) == tuple(colours[2])
    assert small[1, 1, 3] == 0


def test_pictures_of_nothing() -> None:
    nothing = np.zeros(SIZE, np.uint8)
    maps, probabilities = np.zeros((0, *SIZE), np.float32), np.zeros(2, np.float32)
    cam = CamResult(np.zeros(0, np.int64), maps, 0.15, probabilities, SIZE)
    empty = LabelResult(nothing, nothing, cam, Masks.from_dense(SIZE, []), {})
    entry = ReportEntry.of("a", image(), empty)
    for name in ("cam", "masks", "label"):
        assert not pixels_of(entry.pictures[name])[..., 3].any()


def test_more_images_get_smaller_pictures() -> None:
    assert picture_side(LARGE_RUN) > picture_side(LARGE_RUN + 1)


def test_page_puts_the_largest_disagreement_first(tmp_path: Path) -> None:
    partial = ReportEntry.of_label("partial", image(), labels(0))
    entries = [with_change("a", 0.1), partial, with_change("b", 0.9), with_change("c", 0.5)]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    page = (tmp_path / "report.html").read_text()
    assert [row["id"] for row in page_data(page, "report")["images"]] == ["b", "c", "a", "partial"]
    assert page_data(page, "image-0")["image_id"] == "b"
    assert page_data(page, "image-3")["pictures"].keys() == {"image", "label"}


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
    assert "mIoU of" not in page
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
    assert "<b>" not in page.split("<main>")[1].split("</table>")[0]
    assert page_data(page, "report")["images"][0]["id"] == name + "\udcff"
    assert page_data(page, "image-0")["image_id"] == name + "\udcff"


def test_page_names_nothing_outside_itself(tmp_path: Path) -> None:
    entries = [ReportEntry.of("a", image(), result())]
    write_report(tmp_path / "report.html", entry_files(tmp_path, entries), CLASSES)
    page = (tmp_path / "report.html").read_text()
    assert "://" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 2, "pixels": 3}'])
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
