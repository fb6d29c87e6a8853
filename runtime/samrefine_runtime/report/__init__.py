"""The report: one HTML file that shows the steps and the result of each image, offline."""

from samrefine_runtime.report.entry import VERSION, ReportEntry, check_ground_truth
from samrefine_runtime.report.page import MAX_BYTES, write_report
from samrefine_runtime.report.pictures import PICTURE_SIDE, picture_side

__all__ = [
    "MAX_BYTES",
    "PICTURE_SIDE",
    "VERSION",
    "ReportEntry",
    "check_ground_truth",
    "picture_side",
    "write_report",
]
