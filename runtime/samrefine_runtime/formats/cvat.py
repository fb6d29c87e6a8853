"""Label maps as CVAT's own XML 1.1 for images, one file for all of them.

Points are in pixels, (0, 0) is the corner of the first pixel. Masks are run lengths inside their
own box, row by row, zeros first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from samrefine_runtime.atomic import atomic_path
from samrefine_runtime.formats.base import LabelFormat
from samrefine_runtime.formats.dataset import place_image
from samrefine_runtime.formats.parts import EDITABLE, parts
from samrefine_runtime.formats.polygons import Region
from samrefine_runtime.labels import PALETTE, LabelMap
from samrefine_runtime.masks import rle
from samrefine_runtime.names import file_name


class CvatLabels(LabelFormat):
    """`annotations.xml`, which CVAT imports into a task that has the images, and `images/`."""

    heeds = ("tolerance", "min_area", "objects", "shapes", "dataset_images")

    def write(self, image_id: str, image: Path, label: LabelMap) -> None:
        """Place the image. Raises ImageError or OutputError."""
        target = self.folder / "images" / file_name(image_id, image)
        place_image(image, target, self.settings.dataset_images)

    def finish(self, images: Mapping[str, Path], read_label: Callable[[str], LabelMap]) -> None:
        """Write the file. Raises LabelError or OutputError."""
        path = self.folder / "annotations.xml"
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
            file.write("  <version>1.1</version>\n")
            self._write_labels(file)
            for index, (image_id, image) in enumerate(images.items()):
                label = read_label(image_id)
                found = self.annotated(image_id, label)
                name, (height, width) = quoteattr(file_name(image_id, image)), label.shape
                size = f'width="{width}" height="{height}"'
                file.write(f'  <image id="{index}" name={name} {size}>\n')
                for group, region in enumerate(found, start=1):
                    file.writelines(f"    {shape}\n" for shape in self._shapes(region, group))
                file.write("  </image>\n")
            file.write("</annotations>\n")

    def _write_labels(self, file: TextIO) -> None:
        """Write the labels of the task, the classes without the background."""
        file.write("  <meta>\n    <task>\n      <labels>\n")
        for name, rgb in list(zip(self.classes, PALETTE, strict=False))[1:]:
            colour = f"<color>#{bytes(rgb.tolist()).hex()}</color>"
            file.write(f"        <label><name>{escape(name)}</name>{colour}")
            file.write("<attributes></attributes></label>\n")
        file.write("      </labels>\n    </task>\n  </meta>\n")

    def _shapes(self, region: Region, group: int) -> Iterator[str]:
        """Yield the shapes of a region: one mask, or polygons, which are a group if several."""
        name = quoteattr(self.classes[region.class_id])
        common = f'label={name} source="auto" occluded="0" z_order="0"'
        if self.settings.shapes == "masks":
            left, top, width, height = region.bbox
            box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            yield f'<mask {common} rle="{_runs(region)}" {box}></mask>'
            return
        given = self.settings.tolerance
        tolerance = EDITABLE if given is None else given
        outlines = [part.polygon(tolerance) for part in parts(region, tolerance)]
        grouped = f' group_id="{group}"' if len(outlines) > 1 else ""
        for outline in outlines:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline.tolist())
            yield f'<polygon {common}{grouped} points="{points}"></polygon>'


def _runs(region: Region) -> str:
    """Return the run lengths of a region inside its box, row by row, zeros first."""
    # Run lengths are column-major: those of the transposed mask go row by row
    return ", ".join(map(str, rle.encode(np.ascontiguousarray(region.mask.T)).tolist()))
