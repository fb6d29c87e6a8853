"""`samrefine pull`: published weights by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.checkpoints import complete_weights, weights_module
from samrefine_rt.cli.grouped import GroupedCommand, option
from samrefine_rt.cli.options import ExistingFile, progress_bar, results_options, write_results
from samrefine_rt.signals import exit_in_order
from samrefine_runtime.errors import SamrefineError, message_of, printable


@click.command(cls=GroupedCommand)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_weights)
@option("--list", "is_list", is_flag=True, help="List all weights, as without a name.")
@option(
    "--registry",
    "registries",
    type=ExistingFile,
    multiple=True,
    help="A JSON file with further weights; SAMREFINE_REGISTRY names files for every command.",
)
@option(
    "--mirror",
    metavar="URL",
    help="Pull from a copy of the cache's folder of weights there.  [default: SAMREFINE_MIRROR]",
)
@results_options
def pull(
    names: tuple[str, ...],
    is_list: bool,
    registries: tuple[Path, ...],
    mirror: str | None,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Pull published weights, which --checkpoint then takes by name.

    An interrupted transfer goes on where it ended. Files are compared with the size and sha256 that
    are known, and lie in ~/.cache/samrefine (SAMREFINE_CACHE). Exit code 1: some weights cannot be
    had.
    """
    registry = weights_module("registry")
    known = registry.known_weights(registries)
    if is_list or not names:
        _list(known.values(), json_file, quiet=quiet)
        return
    chosen = [registry.weights_of(name, known) for name in dict.fromkeys(names)]
    transfer = weights_module("pull").pull
    exit_in_order()
    files: dict[str, str] = {}
    failed: dict[str, str] = {}
    for weights in chosen:
        try:
            with progress_bar(quiet) as progress:
                files[weights.name] = str(transfer(weights, mirror=mirror, progress=progress))
        except SamrefineError as error:
            if error.exit_code != 1:  # wrong use, whatever the weights
                raise
            failed[weights.name] = message_of(error)
            click.echo(f"Error: {weights.name}: {failed[weights.name]}", err=True)
            continue
        _say_pulled(weights, files[weights.name], quiet=quiet)
    write_results({"files": files, "failed": failed}, json_file)
    if failed:
        click.get_current_context().exit(1)


def _say_pulled(weights: Any, file: str, *, quiet: bool) -> None:
    if weights.sha256 is None:
        only = f"compared with {weights.pins}" if weights.size else "not compared with anything"
        warn(f"{weights.name}: no sha256 is known for certain; it was {only}")
    if not quiet:
        click.echo(printable(file))


def _list(known: Iterable[Any], json_file: Path | None, *, quiet: bool) -> None:
    """Show what can be pulled, and what is here already."""
    path_of = weights_module("cache").weights_path
    rows = [(weights, path_of(weights)) for weights in known]
    listed = {weights.name: _described(weights, path) for weights, path in rows}
    if write_results({"weights": listed}, json_file) or quiet:
        return
    click.echo(f"{'name':<22}{'size':>10}  {'here':<6}{'compared with':<20}licence")
    for weights, path in rows:
        size = "-" if weights.size is None else f"{weights.size / 1e6:.1f} MB"
        here = "yes" if path.is_file() else "no"
        line = f"{weights.name:<22}{size:>10}  {here:<6}{weights.pins:<20}{weights.licence}"
        click.echo(printable(line))


def _described(weights: Any, path: Path) -> dict[str, Any]:
    fields = ("about", "url", "size", "sha256", "sha256_from", "licence")
    known = {name: getattr(weights, name) for name in fields}
    return {**known, "file": str(path), "is_here": path.is_file()}
