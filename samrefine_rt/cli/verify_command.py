"""`samrefine verify`: whether an engine gives what a bundle promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from samrefine_rt.cli.batch import described
from samrefine_rt.cli.bundles import open_bundle, warn
from samrefine_rt.cli.checkpoints import Checkpoint
from samrefine_rt.cli.grouped import TOLERANCES, GroupedCommand, option
from samrefine_rt.cli.images import image_files, images_argument
from samrefine_rt.cli.options import (
    Given,
    output_options,
    progress_bar,
    session_options,
    settings_options,
    write_results,
)
from samrefine_rt.cli.torch_reference import torch_reference
from samrefine_rt.demo import IMAGES
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.diagnosis.verify import Comparison, Tolerances, Verification
from samrefine_runtime.diagnosis.verify import verify as compare
from samrefine_runtime.errors import printable

_EMBEDDED = ("scene-1.jpg", "scene-2.jpg")
"""Of the embedded images those that are run where none is given."""

_COLUMNS = ("rms", "largest", "mean_iou", "least_iou", "score_shift", "label_agreement")


@click.command(cls=GroupedCommand)
@click.argument("bundle")
@images_argument(required=False)
@option(
    "--checkpoint",
    type=Checkpoint(),
    help="Compare with segment-anything in torch, with this checkpoint of the bundle's SAM.",
)
@settings_options(Tolerances, "tolerances", TOLERANCES, shows_defaults=False)
@session_options
@output_options
def verify(
    bundle: str,
    images: tuple[Path, ...],
    checkpoint: Path | None,
    tolerances: Given[Tolerances],
    session: SessionOptions,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Check that an engine computes what a bundle promises.

    Every graph of BUNDLE is run by the chosen backend and precision and by ONNX Runtime on the CPU
    in fp32, on the given images or on two embedded ones; exit code 1 says that they differ by more
    than the tolerances.
    """
    loaded = open_bundle(bundle, is_suited=True)
    files = list(image_files(images).values()) if images else [IMAGES / name for name in _EMBEDDED]
    with _reference(loaded, checkpoint, session) as reference, progress_bar(quiet) as progress:
        found = compare(
            loaded,
            files,
            session=session,
            reference=reference,
            tolerances=tolerances.values,
            progress=progress,
        )
    is_printed = write_results(found.to_json(), json_file)
    if not quiet and not is_printed:
        _print_table(found.comparisons)
        for line in described(found.runs_on):
            click.echo(line)
    for name, reason in found.not_compared.items():
        warn(f"graph {name} was not compared: {reason}")
    _exit(found, quiet=quiet)


@contextmanager
def _reference(
    bundle: Bundle, checkpoint: Path | None, session: SessionOptions
) -> Iterator[SessionOptions]:
    """Yield the options of the reference: the CPU, or torch with a checkpoint."""
    if checkpoint is None:
        yield SessionOptions(backend="cpu", threads=session.threads)
        return
    module = torch_reference()
    with module.torch_backend(module.sam_of(bundle, checkpoint)) as options:
        yield SessionOptions(backend=options.backend, threads=session.threads)


def _print_table(rows: Sequence[Comparison]) -> None:
    titles = [name.replace("_", " ") for name in _COLUMNS]
    click.echo(f"{'graph':<20}{'fed by':<11}" + "".join(f"{title:>16}" for title in titles))
    for row in rows:
        values = [getattr(row, name) for name in _COLUMNS]
        cells = ["-" if value is None else f"{value:.4g}" for value in values]
        line = f"{printable(row.what):<20}{row.fed:<11}" + "".join(f"{c:>16}" for c in cells)
        click.echo(line + ("  outside" if row.faults else ""))


def _exit(found: Verification, *, quiet: bool) -> None:
    """Say what is outside the tolerances and exit with 1, or say that nothing is."""
    for row in found.comparisons:
        for fault in row.faults:
            click.echo(f"Error: {printable(f'{row.what}, fed by {row.fed}: {fault}')}", err=True)
    if not found.is_within:
        click.get_current_context().exit(1)
    if not quiet:
        click.echo(f"within the tolerances of {found.precision}, {found.images} images")
