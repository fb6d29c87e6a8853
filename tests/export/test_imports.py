"""Importing the exporter does no work until an export is asked for."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import samrefine_export
assert "torch" not in sys.modules and "torchvision" not in sys.modules
assert {"export_cam", "export_sam", "__version__"} <= set(dir(samrefine_export))
from samrefine_export import export_cam, export_sam
import samrefine_export.cam, samrefine_export.sam
assert export_sam is samrefine_export.sam.export_sam
assert export_cam is samrefine_export.cam.export_cam
assert not hasattr(samrefine_export, "export_nothing")
"""


def test_torch_is_imported_with_the_first_export_function() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True)
