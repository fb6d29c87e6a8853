"""Commands whose `--help` lists options in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from samrefine_runtime.errors import did_you_mean, printable

Function = TypeVar("Function", bound=Callable[..., Any])

INPUT = "Input and output"
FORMATS = "Formats"
REFINEMENT = "Refinement"
CAM = "Class activation maps (default: the bundle's settings, then IRN's)"
MASKS = "Mask generator (default: the bundle's settings, then SAM's)"
TOLERANCES = "Tolerances (default: those of the precision)"
RUNNING = "Running"
GENERAL = "General"

_ORDER = (INPUT, FORMATS, REFINEMENT, CAM, MASKS, TOLERANCES, RUNNING, GENERAL)


class GroupedOption(click.Option):
    """An option that `--help` lists in a group."""

    def __init__(self, *arguments: Any, group: str = INPUT, **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.group = group


class SuggestingGroup(click.Group):
    """A group of commands that says which one an unknown name may mean."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; fail as a usage error where there is none of that name."""
        name = str(args[0])
        if not ctx.resilient_parsing and name[:1] != "-" and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            ctx.fail(f"No such command {printable(name)!r}{did_you_mean(name, known)}")
        return super().resolve_command(ctx, args)


class OneOf(click.Choice[str]):
    """One of some names; an unknown one is told which it may mean."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the message on a value that is none of the names."""
        message = super().get_invalid_choice_message(value, ctx)
        return message.rstrip(".") + (did_you_mean(value, self.choices) or ".")


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
