"""What commands that write labels have in common on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from samrefine_rt.cli.grouped import FORMATS, Function, option
from samrefine_rt.cli.options import Given, LabelFolder, format_option, settings_options
from samrefine_rt.cli.outputs import GroundTruth, LabelWriter
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.formats import BASE_FORMAT, LABEL_FORMATS
from samrefine_runtime.formats.settings import FormatSettings


@dataclass(frozen=True)
class LabelOutputs:
    """Which files are written of labels."""

    formats: tuple[str, ...] = (BASE_FORMAT,)
    """Names in LABEL_FORMATS."""
    overlay: bool = False
    """Whether to draw overlays."""
    report: bool = False
    """Whether to write the report."""
    ground_truth: Path | None = None
    """Folder of labels that the report compares with. Raises SettingsError without a report."""
    settings: FormatSettings = field(default_factory=FormatSettings)
    """Settings of the formats."""

    def __post_init__(self) -> None:
        if self.ground_truth is not None and not self.report:
            raise SettingsError("--ground-truth needs --report, which shows the comparison")

    @property
    def truth(self) -> GroundTruth:
        """The ground truth of the report."""
        return GroundTruth(self.ground_truth)

    def writer(self, out: Path, classes: Sequence[str], **more: Any) -> LabelWriter:
        """Return what writes these files into `out`; `more` is LabelWriter's."""
        return LabelWriter(
            out,
            classes,
            self.formats,
            overlay=self.overlay,
            report=self.report,
            settings=self.settings,
            **more,
        )


def label_output_options(command: Function) -> Function:
    """Declare --format, --overlay, --report and --ground-truth, handed on as `outputs`."""
    text = "Label PNGs, <id>.png, that the report compares with."
    truth = option("--ground-truth", type=LabelFolder(), help=text)
    return unscored_output_options(truth(command))


def unscored_output_options(command: Function) -> Function:
    """Declare --format, --overlay, --report and the formats' own options.

    They are handed on as `outputs`.
    """

    @wraps(command)
    def collected(
        *args: Any,
        formats: tuple[str, ...],
        overlay: bool,
        report: bool,
        format_settings: Given[FormatSettings],
        ground_truth: Path | None = None,
        **kwargs: Any,
    ) -> Any:
        outputs = LabelOutputs(formats, overlay, report, ground_truth, format_settings.settings())
        return command(*args, outputs=outputs, **kwargs)

    decorated: Any = collected
    # click lists the option declared last first
    for declare in (
        settings_options(FormatSettings, "format_settings", FORMATS),
        option("--report", is_flag=True, help="Also write report.html, which shows each step."),
        option("--overlay", is_flag=True, help="Also draw overlays/<id>.jpg."),
        format_option(LABEL_FORMATS, BASE_FORMAT),
    ):
        decorated = declare(decorated)
    return decorated  # type: ignore[no-any-return]
