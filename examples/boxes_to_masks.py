"""Turn the boxes of one image into masks and a label.

    python boxes_to_masks.py image.jpg boxes.csv out/ --bundle demo

The CSV file has a header `class,x0,y0,x1,y1` and one box per line, in pixels. Written are
`masks.json` (SAM's records), `label.png` and `classes.txt`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from samrefine_rt import Masks, Predictor, read_image, write_label


def main() -> None:
    """Ask SAM for the mask of every box; smaller masks are painted over larger ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("image", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", default="demo")
    given = parser.parse_args()
    with given.boxes.open(newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = [[float(row[side]) for side in ("x0", "y0", "x1", "y1")] for row in rows]
    classes = sorted({row["class"] for row in rows})
    # The image is encoded once, however many boxes there are
    image = read_image(given.image)
    predictor = Predictor(given.bundle)
    predictor.set_image(image)
    found = [predictor.predict(box=box, multimask_output=False) for box in boxes]
    shape = (image.shape[0], image.shape[1])
    masks = Masks.from_dense(shape, [mask[0] for mask, _, _ in found])
    # Paint the classes, 1 for the first name
    label = np.zeros(shape, np.uint8)
    for index in np.argsort(-masks.areas):
        label[masks[index]] = classes.index(rows[index]["class"]) + 1
    masks.save(given.out / "masks.json")
    write_label(given.out / "label.png", label)
    (given.out / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    for row, (_, scores, _) in zip(rows, found, strict=True):
        print(f"{row['class']}: predicted IoU {scores[0]:.2f}")


if __name__ == "__main__":
    main()
