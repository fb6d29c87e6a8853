"""What a run into an output folder is: its record, its journal, and what it may write."""

from samrefine_runtime.runs.apart import check_apart
from samrefine_runtime.runs.folder import HIDDEN, OutputFolder
from samrefine_runtime.runs.record import RunRecord, bundle_identity
from samrefine_runtime.runs.task import IMAGE, SPANNING, Glances, Task

__all__ = [
    "HIDDEN",
    "IMAGE",
    "SPANNING",
    "Glances",
    "OutputFolder",
    "RunRecord",
    "Task",
    "bundle_identity",
    "check_apart",
]
