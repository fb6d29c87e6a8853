"""What a run into an output folder is: its record, its journal, and what it may write."""

from samrefine_runtime.runs.apart import check_apart
from samrefine_runtime.runs.folder import HIDDEN, IMAGE, SPANNING, OutputFolder, Task
from samrefine_runtime.runs.record import RunRecord, bundle_identity

__all__ = [
    "HIDDEN",
    "IMAGE",
    "SPANNING",
    "OutputFolder",
    "RunRecord",
    "Task",
    "bundle_identity",
    "check_apart",
]
