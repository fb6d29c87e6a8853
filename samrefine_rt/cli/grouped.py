"""Commands whose `--help` lists options in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

INPUT = "Input and output"
REFINEMENT = "Refinement"
CAM = "Class activation maps (default: the bundle's settings, then IRN's)"
MASKS = "Mask generator (default: the bundle's settings, then SAM's)"
TOLERANCES = "Tolerances (default: those of the precision)"
RUNNING = "Running"
GENERAL = "General"

_ORDER = (INPUT, REFINEMENT, CAM, MASKS, TOLERANCES, RUNNING, GENERAL)


class GroupedOption(click.Option):
    """An option that `--help` lists in a group."""

    def __init__(self, *arguments: Any, group: str = INPUT, **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command that shows its options group by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group that has options."""
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in _ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                records[getattr(parameter, "group", GENERAL)].append(record)
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def option(*names: str, group: str = INPUT, **attributes: Any) -> Callable[[Function], Function]:
    """Declare an option of a group; `attributes` are click's."""
    return click.option(*names, cls=GroupedOption, group=group, **attributes)
