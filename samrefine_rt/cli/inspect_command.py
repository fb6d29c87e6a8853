"""`samrefine inspect`: what a bundle holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.options import json_option, write_results
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.errors import printable

_SHOWN_VALUES = 24
"""Values of a list that are printed: all of VOC's classes, the start of longer lists."""


@click.command(cls=GroupedCommand)
@click.argument("bundle", required=False)
@option("--bundle", "named", metavar="BUNDLE", help="The bundle, as in the other commands.")
@json_option
def inspect(bundle: str | None, named: str | None, json_file: Path | None) -> None:
    """Check a bundle's files and show what it holds.

    BUNDLE is a folder, or "demo" for the embedded bundle. --json writes the manifest.
    """
    name = bundle or named
    if name is None:
        raise click.UsageError('which bundle? Give its folder, or "demo" for the embedded one.')
    loaded = open_bundle(name, is_suited=True)
    if write_results(loaded.manifest, json_file):
        return
    _say(f"{loaded.name} ({loaded.precision}), format {loaded.manifest['format_version']}")
    for graph in loaded.all_graphs():
        _print_graph(graph)
        _print_engines(loaded.manifest["graphs"][graph.name].get("engines", {}))
    for section in ("sam", "cam", "defaults"):
        _print_section(section, loaded.manifest.get(section) or {})
    if "caution" in loaded.manifest:
        _print_section("caution", {"note": loaded.manifest["caution"]})
    click.echo(_sizes(loaded))


def _print_graph(graph: Graph) -> None:
    click.echo()
    _say(f"{graph.name}: {graph.path.name}")
    for title, values in (("in", graph.inputs), ("out", graph.outputs)):
        for value in values:
            shape = ", ".join(map(str, value.shape))
            _say(f"  {title:<4}{value.name:<18}{value.dtype:<9}({shape})")


def _print_engines(refusals: Mapping[str, Sequence[str]]) -> None:
    """Print which engines take a graph, and why the others do not."""
    taken = [engine for engine, reasons in refusals.items() if not reasons]
    if taken:
        _say(f"  {'for':<4}{', '.join(taken)}")
    for engine, reasons in refusals.items():
        if reasons:
            _say(f"  not for {engine}: {'; '.join(reasons)}")


def _print_section(title: str, section: Mapping[str, Any]) -> None:
    if not section:
        return
    click.echo(f"\n{title}:")
    for key, value in section.items():
        _say(f"  {key}: {_short(value)}")


def _say(text: str) -> None:
    """Print one line of texts that whoever made the bundle wrote."""
    click.echo(printable(text))


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value[:_SHOWN_VALUES])) + (
            ", ..." if len(value) > _SHOWN_VALUES else ""
        )
    return str(value)


def _sizes(bundle: Bundle) -> str:
    files = {path for graph in bundle.all_graphs() for path in graph.files}
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return f"\n{len(files)} files, {megabytes:.1f} MB, every sha256 matches the manifest"
