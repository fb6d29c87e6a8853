"""The report of results that are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samrefine_runtime.arguments import LabelLike, as_iterator, as_label
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.class_names import BACKGROUND
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.labels import LabelMap
from samrefine_runtime.names import image_id
from samrefine_runtime.report.entry import ReportEntry
from samrefine_runtime.report.page import write_report as write_page
from samrefine_runtime.results import LabelResult


def write_report(
    path: StrPath, results: Iterable[LabelResult | tuple[LabelResult, LabelLike]]
) -> None:
    """Write one HTML file that shows each step of some results, as `samrefine label --report` does.

    Results are taken one at a time: a generator need not hold them all.

    Args:
        path: the HTML file.
        results: of `Labeler` or `Refiner`, all with the same class names; or pairs of a result and
            its ground truth, (H, W) uint8 or a label PNG, with which the page compares.

    Raises:
        SettingsError: the path is none, there is no result, or something else among them.
        LabelError: a ground truth cannot be read, or is of another shape than its image.
        OutputError: the file cannot be written.
    """
    page, classes = as_path(path, "path"), dict[tuple[str, ...], None]()
    files: dict[str, Path] = {}
    with TemporaryDirectory() as folder:
        entries = []
        for number, (result, truth) in enumerate(_pairs(results), 1):
            image, file = result.image, result.image_file
            if image is None:
                raise SettingsError("results has one without its image, expected one with it")
            name = f"{number}" if file is None else image_id(file)
            entries.append(Path(folder) / f"{number}.json")
            ReportEntry.of(name, image, result, truth).write(entries[-1])
            classes[result.classes] = None
            if file is not None:
                files[name] = file
        if len(classes) != 1:
            raise SettingsError(f"results has {len(classes)} lists of classes, expected one")
        names = (BACKGROUND, *next(iter(classes)))
        write_page(page, entries, names, image_files=files)


def _pairs(results: Iterable[Any]) -> Iterator[tuple[LabelResult, LabelMap | None]]:
    """Yield results with their ground truth, None without. Raises SettingsError or LabelError."""
    expected = "results of Labeler or Refiner, or pairs of one and its ground truth"
    for each in as_iterator(results, "results", expected):
        result, truth = each if isinstance(each, tuple) and len(each) == 2 else (each, None)
        if not isinstance(result, LabelResult):
            raise SettingsError(f"results has {described(each)}, expected {expected}")
        yield result, None if truth is None else as_label(truth, "ground truth")
