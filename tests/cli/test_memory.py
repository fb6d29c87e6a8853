"""Peak memory of whole commands: in proportion to the image."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory import measure


def test_24_megapixels_of_eight_classes_fit_into_one_gigabyte(tmp_path: Path) -> None:
    peaks = measure(tmp_path, 24, 1)
    assert {name: peak for name, peak in peaks.items() if peak > 700} == {}
    assert (tmp_path / "labels" / "report.html").is_file()
    assert (tmp_path / "labels" / "overlays" / "0.jpg").is_file()
