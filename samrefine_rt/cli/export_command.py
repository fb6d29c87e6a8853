"""`samrefine export`: checkpoints to bundles. The only commands that need torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.options import Folder
from samrefine_runtime.errors import BackendError

Checkpoint = click.Path(dir_okay=False, path_type=Path)


@click.group()
def export() -> None:
    """Export networks to a bundle, a new one or one that exists."""


@export.command()
@click.option("--model", required=True, metavar="vit_b|vit_l|vit_h|mobile_sam")
@click.option("--checkpoint", type=Checkpoint, help="The official .pth or .pt file.")
@click.option("--out", required=True, type=Folder, help="Bundle folder.")
@click.option(
    "--random-weights", type=int, metavar="SEED", help="No checkpoint: for tests and benchmarks."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="int8: faster encoder on CPUs with VNNI, masks differ a little.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def sam(
    model: str,
    checkpoint: Path | None,
    out: Path,
    random_weights: int | None,
    precision: str,
    quiet: bool,
) -> None:
    """Segment Anything or MobileSAM: encoder, decoder and everything graph."""
    module = _exporter("sam")
    module.export_sam(
        model,
        checkpoint,
        out,
        random_weights=random_weights,
        precision=precision,
        progress=lambda step: None if quiet else click.echo(f"{step} ...", err=True),
    )
    if not quiet:
        click.echo(f"wrote {out}", err=True)


@export.command()
@click.option(
    "--arch",
    required=True,
    help="irn_resnet50, a torchvision resnet, timm:NAME, or MODULE:FACTORY of your own.",
)
@click.option("--checkpoint", type=Checkpoint, help="Weights (.pth, .pt, .safetensors).")
@click.option("--classes", required=True, type=Checkpoint, help="One class a line, or JSON.")
@click.option("--out", required=True, type=Folder, help="Bundle folder.")
@click.option("--recam-predictor", type=Checkpoint, help="ReCAM's second classifier.")
@click.option(
    "--last-stride",
    type=click.IntRange(1, 2),
    help="Stride of a ResNet's last stage; 1 doubles the CAM's resolution.",
)
@click.option(
    "--random-weights", type=int, metavar="SEED", help="No checkpoint: for tests and benchmarks."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def cam(
    arch: str,
    checkpoint: Path | None,
    classes: Path,
    out: Path,
    recam_predictor: Path | None,
    last_stride: int | None,
    random_weights: int | None,
    quiet: bool,
) -> None:
    """A classifier whose class activation maps (CAM) name the masks."""
    _exporter("cam").export_cam(
        arch,
        checkpoint,
        classes,
        out,
        random_weights=random_weights,
        recam_predictor=recam_predictor,
        last_stride=last_stride,
    )
    if not quiet:
        click.echo(f"wrote {out}", err=True)


def _exporter(name: str) -> Any:
    """A module of the exporter. Raises BackendError where its packages are missing."""
    import importlib

    try:
        return importlib.import_module(f"samrefine_export.{name}")
    except ImportError as error:
        raise BackendError(
            f"exporting needs {error.name or error}: pip install 'samrefine-rt[export]'"
        ) from error
