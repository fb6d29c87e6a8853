"""The `samrefine` command. Each subcommand lives in its own module and loads when it is called."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from samrefine_rt import __version__
from samrefine_rt.cli.grouped import SuggestingGroup
from samrefine_runtime.errors import SamrefineError, message_of

_COMMANDS = (
    *("demo", "pull", "export", "build", "inspect", "label", "refine", "segment", "masks"),
    *("convert", "evaluate", "serve"),
    *("verify", "bench", "doctor"),
)
"""Subcommands in the order of a user's work: `x` is the function `x` of module `x_command`."""


class LazyGroup(SuggestingGroup):
    """Imports a subcommand's module only when it runs, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands' names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command `cmd_name` of module `samrefine_rt.cli.<cmd_name>_command`."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"samrefine_rt.cli.{cmd_name}_command")
        return getattr(module, cmd_name)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the subcommands with the first line of their help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _one_liner(name)) for name in _COMMANDS])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the subcommands that begin so, without importing them, and options."""
        options = click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=_one_liner(name)) for name in names), *options]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a SamrefineError becomes one line on stderr and its exit code."""
        try:
            return super().invoke(ctx)
        except SamrefineError as error:
            click.echo(f"Error: {message_of(error)}", err=True)
            ctx.exit(error.exit_code)
        except MemoryError as error:
            click.echo(f"Error: out of memory ({message_of(error)})", err=True)
            ctx.exit(1)
        except ImportError as error:
            # Such as an OpenCV whose libraries are missing: broken, but not by this package
            click.echo(f"Error: a package cannot be imported: {message_of(error)}", err=True)
            ctx.exit(2)


def _one_liner(command: str) -> str:
    """Return the first line of a command's docstring.

    It is read from the source: importing all commands would load NumPy and OpenCV, ten times
    the time that `samrefine --help` takes.
    """
    source = Path(__file__).with_name(f"{command}_command.py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    docstring = ast.get_docstring(next(node for node in functions if node.name == command)) or ""
    return docstring.partition("\n")[0]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="samrefine")
def main() -> None:
    """Turn image-level labels into pixel labels: CAM + Segment Anything + SEPL.

    Exit codes: 0 all done, 1 some inputs failed (each is listed, the rest is done), 2 wrong use.
    """
