"""Refine pseudo labels with the masks of any segmenter.

    python refine_with_own_masks.py cams/ masks/ refined/

`cams/<id>.png` are label PNGs, `masks/<id>.npy` are NumPy arrays (N, H, W) of bool. No model is
run, and none is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from samrefine_rt import Masks, read_label, refine_labels, write_label


def main() -> None:
    """Refine every pseudo label that has masks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pseudo_labels", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    for file in sorted(given.pseudo_labels.glob("*.png")):
        stack = given.masks / f"{file.stem}.npy"
        if not stack.exists():
            print(f"{file.stem}: no masks")
            continue
        pseudo_label = read_label(file)
        masks = Masks.from_dense(pseudo_label.shape, np.load(stack))
        # The area cap keeps a mask of the whole scene from taking a small class
        refined = refine_labels(pseudo_label, masks, max_area_ratio=4)
        write_label(given.out / file.name, refined)
        print(f"{file.stem}: {np.mean(refined != pseudo_label):.1%} of the pixels changed")


if __name__ == "__main__":
    main()
