"""Label the images of a folder: VOC PNGs and a YOLO data set.

python label_folder.py images/ labels/ --bundle demo
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samrefine_rt import ImageError, Labeler, write_labels


def main() -> None:
    """Label every image; those that cannot be read are named, and the rest is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", default="demo")
    given = parser.parse_args()
    labeler = Labeler(given.bundle)
    labels = _labels(labeler, sorted(given.images.iterdir()))
    write_labels(given.out, labels, labeler.classes, ["yolo"])


def _labels(labeler: Labeler, files: list[Path]) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Yield each label as soon as it is made: none is kept in memory."""
    for file in files:
        try:
            result = labeler.label(file)
        except ImageError as error:
            print("skipped:", error)
        else:
            print(file.name, result)
            yield file, result.label


if __name__ == "__main__":
    main()
