"""`samrefine build`: TensorRT engines of a bundle, for this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from samrefine_rt.cli.grouped import INPUT, GroupedCommand, option
from samrefine_rt.cli.options import Given, output_options, settings_options, write_results
from samrefine_runtime.backends.tensorrt.store import Verdict
from samrefine_runtime.engines import EngineSettings, build_engines
from samrefine_runtime.errors import printable


@click.command(cls=GroupedCommand)
@click.argument("bundle")
@settings_options(EngineSettings, "settings", INPUT)
@option(
    "--image",
    "images",
    multiple=True,
    metavar="FILE",
    help="An image with which engines are compared; give two or more.  [default: drawn scenes]",
)
@output_options
def build(
    bundle: str,
    settings: Given[EngineSettings],
    images: Sequence[str],
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Build TensorRT engines of a bundle for this GPU, and verify each.

    Every engine is compared with its graph in ONNX Runtime before it may be used. Engines lie in
    BUNDLE/engines; the other commands take them from there. Exit code 1: a graph has no engine that
    is close enough, and runs elsewhere.
    """
    shown = _Shown(is_quiet=quiet)
    verdicts = build_engines(bundle, settings.settings(), images=images, progress=shown.step)
    shown.clear()
    if not write_results({"engines": [asdict(each) for each in verdicts]}, json_file) and not quiet:
        for verdict in verdicts:
            click.echo(_line(verdict))
    graphs = {verdict.graph for verdict in verdicts}
    passed = {verdict.graph for verdict in verdicts if verdict.is_passed}
    if graphs - passed:
        click.get_current_context().exit(1)


class _Shown:
    """The line on a terminal that says what is built."""

    def __init__(self, *, is_quiet: bool):
        self._is_shown = not is_quiet and sys.stderr.isatty()

    def step(self, what: str, done: int, total: int) -> None:
        """Show what is built and how far it is."""
        if self._is_shown:
            click.echo(f"\r\x1b[K{printable(what)}: {done} of {total}", err=True, nl=False)

    def clear(self) -> None:
        """Leave the line empty for what comes next."""
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def _line(verdict: Verdict) -> str:
    """Return the line on one engine."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in verdict.figures.items())
    state = figures if verdict.is_passed else f"not used: {verdict.reason}"
    return printable(f"{verdict.graph:<18}{verdict.precision:<6}{state}")
