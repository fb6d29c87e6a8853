"""`samrefine export`: checkpoints to bundles, bundles to one graph. All of it needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.bundles import open_bundle
from samrefine_rt.cli.checkpoints import Checkpoint
from samrefine_rt.cli.classes import ClassList
from samrefine_rt.cli.grouped import GroupedCommand, SuggestingGroup, option
from samrefine_rt.cli.options import Folder, results_options, write_results
from samrefine_rt.signals import exit_in_order
from samrefine_runtime.bundle import EMBEDDED, MANIFEST
from samrefine_runtime.errors import BackendError, SettingsError


@click.group(cls=SuggestingGroup)
def export() -> None:
    """Export networks to a bundle, or a bundle to one graph (needs torch)."""


@export.command(cls=GroupedCommand)
@option(
    "--model",
    required=True,
    metavar="NAME",
    help="Architecture, such as vit_b or mobile_sam; an unknown name lists all.",
)
@option(
    "--checkpoint",
    type=Checkpoint(),
    help="The official .pth or .pt file, or its name once pulled, such as vit_b.",
)
@option("--out", required=True, type=Folder, help="Bundle folder.")
@option(
    "--random-weights",
    type=int,
    metavar="SEED",
    help="Seed of random weights instead of a checkpoint, for tests and benchmarks.",
)
@option(
    "--precision",
    metavar="NAME,...",
    default="fp32",
    show_default=True,
    help="fp32 or int8 (a faster encoder on CPUs with VNNI, masks change slightly); fp16 and bf16 "
    "write further graphs beside them, for GPUs.",
)
@results_options
def sam(
    model: str,
    checkpoint: Path | None,
    out: Path,
    random_weights: int | None,
    precision: str,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Export the graphs of Segment Anything or MobileSAM."""
    module = _exporter("sam")
    module.export_sam(
        model,
        checkpoint,
        out,
        random_weights=random_weights,
        precision=precision,
        progress=lambda step: None if quiet else click.echo(f"{step} ...", err=True),
    )
    _finish(out, json_file, quiet=quiet)


@export.command(cls=GroupedCommand)
@option(
    "--arch",
    required=True,
    metavar="NAME",
    help="irn_resnet50, a torchvision resnet, timm:NAME, or a custom MODULE:FACTORY.",
)
@option(
    "--checkpoint",
    type=Checkpoint(),
    help="Weights (.pth, .pt, .safetensors), or their name once pulled.",
)
@option(
    "--classes",
    required=True,
    type=ClassList(),
    metavar="FILE|a,b,c",
    help="The classifier's classes in its order, without background: a file with one per line or a "
    "JSON list, the names themselves, or voc.",
)
@option("--out", required=True, type=Folder, help="Bundle folder.")
@option("--recam-predictor", type=Checkpoint(), help="Weights of ReCAM's second classifier.")
@option(
    "--last-stride",
    type=click.IntRange(1, 2),
    metavar="N",
    help="Stride of a ResNet's last stage; 1 doubles the CAM's resolution.",
)
@option(
    "--random-weights",
    type=int,
    metavar="SEED",
    help="Seed of random weights instead of a checkpoint, for tests and benchmarks.",
)
@option(
    "--precision",
    metavar="NAME,...",
    default="fp32",
    show_default=True,
    help="fp32; fp16 and bf16 write further graphs beside it, for GPUs.",
)
@results_options
def cam(
    arch: str,
    checkpoint: Path | None,
    classes: tuple[str, ...],
    out: Path,
    recam_predictor: Path | None,
    last_stride: int | None,
    random_weights: int | None,
    precision: str,
    quiet: bool,
    json_file: Path | None,
) -> None:
    """Export a classifier for class activation maps (CAM)."""
    _exporter("cam").export_cam(
        arch,
        checkpoint,
        classes,
        out,
        random_weights=random_weights,
        recam_predictor=recam_predictor,
        last_stride=last_stride,
        precision=precision,
    )
    _finish(out, json_file, quiet=quiet)


_OUT = click.Path(dir_okay=False, path_type=Path)


@export.command(cls=GroupedCommand)
@click.argument("bundle")
@option("--out", type=_OUT, help="The file.  [default: label.onnx in the bundle]")
@results_options
def label(bundle: str, out: Path | None, quiet: bool, json_file: Path | None) -> None:
    """Export one graph that takes an image and gives its refined label.

    BUNDLE is a folder with SAM and a classifier, or "demo".
    """
    target = _graph_file(bundle, out, "label.onnx")
    _exporter("pipeline").export_label(open_bundle(bundle), target)
    _say_written(target, json_file, quiet=quiet)


@export.command(cls=GroupedCommand)
@click.argument("bundle")
@option("--out", type=_OUT, help="The file.  [default: everything.onnx in the bundle]")
@results_options
def everything(bundle: str, out: Path | None, quiet: bool, json_file: Path | None) -> None:
    """Export one graph that takes an image and gives all its masks.

    BUNDLE is a folder with SAM, or "demo".
    """
    target = _graph_file(bundle, out, "everything.onnx")
    _exporter("pipeline").export_everything(open_bundle(bundle), target)
    _say_written(target, json_file, quiet=quiet)


@export.command(cls=GroupedCommand)
@option("--out", type=_OUT, required=True, help="The file.")
@results_options
def refine(out: Path, quiet: bool, json_file: Path | None) -> None:
    """Export one graph that refines a pseudo label by masks of any origin."""
    _exporter("pipeline").export_refine(out)
    _say_written(out, json_file, quiet=quiet)


def _graph_file(bundle: str, out: Path | None, name: str) -> Path:
    """Return the file to write. Raises SettingsError where the embedded bundle is no place."""
    if out is None and bundle in EMBEDDED:
        raise SettingsError(f"where to? The bundle {bundle} is part of this package: give --out")
    return out or Path(bundle) / name


def _say_written(path: Path, json_file: Path | None, *, quiet: bool) -> None:
    size = path.stat().st_size
    if not write_results({"file": str(path), "bytes": size}, json_file) and not quiet:
        click.echo(f"wrote {path}, {size / 1e6:.1f} MB", err=True)


def _finish(out: Path, json_file: Path | None, *, quiet: bool) -> None:
    """Say where the bundle is; as JSON, what is in it, as `inspect` does."""
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    if not write_results(manifest, json_file) and not quiet:
        click.echo(f"wrote {out}", err=True)


def _exporter(name: str) -> Any:
    """Import a module of the exporter, and let signals end it in order from now on.

    Raises BackendError where its packages are missing.
    """
    import importlib

    try:
        module = importlib.import_module(f"samrefine_export.{name}")
    except ImportError as error:
        raise BackendError(
            f"exporting needs {error.name or error}: pip install 'samrefine-rt[export]'"
        ) from error
    exit_in_order()
    return module
