"""`samrefine doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

from pathlib import Path

import click

from samrefine_rt import __version__
from samrefine_rt.cli.grouped import GroupedCommand
from samrefine_rt.cli.options import json_option, write_results
from samrefine_runtime.diagnosis.doctor import BackendState, Diagnosis
from samrefine_runtime.diagnosis.doctor import doctor as examine
from samrefine_runtime.errors import printable


@click.command(cls=GroupedCommand)
@json_option
def doctor(json_file: Path | None) -> None:
    """Show what this machine can run, and why it cannot run the rest.

    Starts every backend on a small graph. What is missing is no error.
    """
    found = examine()
    if not write_results(found.to_json(), json_file):
        _print(found)


def _print(found: Diagnosis) -> None:
    rows = {"samrefine": __version__, **found.machine, **found.packages}
    for name, value in rows.items():
        click.echo(f"{name:<24}{printable(value)}")
    click.echo("\nbackends, as auto prefers them:")
    for state in found.backends:
        click.echo(f"  {state.name:<10}{printable(_described(state))}")
    for line in found.advice:
        click.echo(f"\n{printable(line)}")


def _described(state: BackendState) -> str:
    """Say in which precisions a backend starts, or why it does not."""
    if state.precisions:
        return f"starts ({', '.join(state.precisions)})"
    return f"does not start: {'; '.join(dict.fromkeys(state.reasons.values()))}"
