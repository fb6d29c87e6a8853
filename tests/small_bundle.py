"""Exports the committed small bundle anew: `python -m tests.small_bundle`.

The tests of the runtime read the committed one, so that they need no torch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.samples import DATA

FOLDER = DATA / "small_bundle"


def export_small_bundle(folder: Path) -> None:
    """Export `small_sam(0)` and `small_cam()` as one bundle named small."""
    from samrefine_export.cam import export_cam_network
    from samrefine_export.sam import export_sam_module
    from tests.small_cam import CLASSES, small_cam
    from tests.small_sam import small_sam

    export_sam_module(small_sam(0), folder, arch="small", source={"random_weights": 0})
    export_cam_network(small_cam(), CLASSES, folder, arch="colours", name="small")


if __name__ == "__main__":
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    export_small_bundle(FOLDER)
