"""Vertices of labelme's polygons, and what is left of the label, at each tolerance.

    python -m benchmarks.tolerance [LABELS]

LABELS is a folder of label PNGs; without one, the ground truth of the 150 VOC photos.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import VOC
from samrefine_runtime.formats.parts import EDITABLE, outline, parts
from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.formats.rasterise import draw_polygon
from samrefine_runtime.labels import MAX_CLASS, LabelMap, read_label

TOLERANCES = (0, 0.5, 1, 1.5, EDITABLE, 3, 4)
"""Pixels."""

LEAST_AREA = 64
"""Smaller regions, 8 by 8 pixels, are left out: they have few vertices at any tolerance."""


def main(folder: Path) -> None:
    """Print a table, one row per tolerance."""
    labels = [read_label(path) for path in sorted(folder.glob("*.png"))]
    print(f"{len(labels)} labels of {folder}, regions of at least {LEAST_AREA} pixels")
    print("tolerance  regions  polygons  vertices/region  median  IoU mean  IoU least")
    for tolerance in TOLERANCES:
        rows = np.array([row for label in labels for row in _measured(label, tolerance)])
        counts, vertices, kept = rows.T
        print(
            f"{tolerance:9}  {len(rows):7}  {int(counts.sum()):8}  {vertices.mean():15.1f}  "
            f"{np.median(vertices):6.0f}  {kept.mean():8.4f}  {kept.min():9.4f}"
        )


def _measured(label: LabelMap, tolerance: float) -> Iterator[tuple[int, int, float]]:
    """Yield the polygons, the vertices and the IoU of each region."""
    for region in regions(label, MAX_CLASS + 1, LEAST_AREA):
        polygons = [outline(part, tolerance) for part in parts(region, tolerance)]
        drawn = _drawn(region, polygons)
        mask = region.mask
        iou = np.count_nonzero(drawn & mask) / np.count_nonzero(drawn | mask)
        yield len(polygons), sum(map(len, polygons)), float(iou)


def _drawn(region: Region, polygons: list[list[list[float]]]) -> NDArray[np.bool_]:
    """Draw polygons as labelme does, in the box of their region (h, w)."""
    shape = (region.mask.shape[0], region.mask.shape[1])
    drawn = np.zeros(shape, bool)
    for polygon in polygons:
        points = np.array(polygon) - (region.left, region.top)
        drawn |= draw_polygon(points, shape).paste(shape)
    return drawn


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else VOC / "gt")
