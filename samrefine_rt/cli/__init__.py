"""The `samrefine` command. Each subcommand lives in its own module and loads when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from samrefine_rt import __version__
from samrefine_runtime.errors import SamrefineError

_COMMANDS = {
    "demo": "See the whole way at work on embedded photos, offline.",
    "export": "Export networks to a bundle (needs torch).",
    "inspect": "Show what a bundle holds.",
    "masks": "Find all masks of photos (everything mode).",
    "refine": "Refine pseudo labels with SAM's masks (SEPL).",
    "label": "Label photos: CAM, SAM and SEPL in one go.",
    "evaluate": "Compare label maps with ground truth.",
}


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it runs, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of a user's work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `cmd_name` of module `samrefine_rt.cli.<cmd_name>`."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"samrefine_rt.cli.{cmd_name}_command")
        return getattr(module, cmd_name)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Subcommands with their one-line help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a SamrefineError becomes one clear line and its exit code."""
        try:
            return super().invoke(ctx)
        except SamrefineError as error:
            click.echo(f"Error: {_one_line(error)}", err=True)
            ctx.exit(error.exit_code)
        except MemoryError as error:
            click.echo(f"Error: out of memory ({_one_line(error)})", err=True)
            ctx.exit(1)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="samrefine")
def main() -> None:
    """Turn image-level labels into pixel labels: CAM + Segment Anything + SEPL.

    Exit codes: 0 all done, 1 some inputs failed (listed, the rest done), 2 wrong use.
    """
