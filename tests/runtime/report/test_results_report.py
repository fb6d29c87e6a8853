"""The report of results in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.results import write_report
from samrefine_runtime.results import LabelResult
from tests.command import files_in

SHAPE = (8, 12)


def result(name: str | None, classes: tuple[str, ...] = ("cat",)) -> LabelResult:
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 3:9] = 1
    return LabelResult(
        label=label,
        pseudo_label=np.roll(label, 1),
        cam=None,
        masks=Masks.from_dense(SHAPE, [label == 1]),
        seconds={"masks": 1.0},
        image=np.zeros((*SHAPE, 3), np.uint8),
        image_file=None if name is None else Path(name),
        classes=classes,
    )


def test_a_page_of_results(tmp_path: Path) -> None:
    def results() -> Iterator[LabelResult | tuple[LabelResult, np.ndarray]]:
        yield result("photos/first.jpg")
        yield result("second.jpg"), result(None).label
        yield result(None)

    write_report(tmp_path / "report.html", results())
    assert files_in(tmp_path) == ["report.html"]
    page = (tmp_path / "report.html").read_text()
    assert all(f'"image_id":"{name}"' in page for name in ("first", "second", "3"))
    assert page.count('"scored":true') == 1 and "cat" in page


def test_page_links_the_images_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "photo 1.jpg").touch()
    names = [str(tmp_path / "photo 1.jpg"), str(tmp_path / "gone.jpg")]
    write_report(tmp_path / "out" / "report.html", [result(name) for name in names])
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('"image_link":"../photo%201.jpg"') == 1
    assert page.count('"image_link":null') == 1


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "results has 0 lists of classes, expected one"),
        ([result("a"), result("b", ("dog",))], "results has 2 lists of classes, expected one"),
        ([(result("a"), "truth", 1)], "results has .*, expected results of Labeler or Refiner"),
    ],
)
def test_what_is_no_set_of_results(tmp_path: Path, results: list, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_report(tmp_path / "report.html", results)
    assert files_in(tmp_path) == []


def test_ground_truth_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="ground truth is 12 x 9 pixels"):
        write_report(tmp_path / "report.html", [(result("a"), np.zeros((9, 12), np.uint8))])
