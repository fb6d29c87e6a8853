"""Writes the graphs of whole pipelines to files."""

from __future__ import annotations

from pathlib import Path

import onnx

from samrefine_export.errors import ExportError
from samrefine_export.pipeline.builder import PRODUCER
from samrefine_export.pipeline.compose import everything_model, label_model, refine_model
from samrefine_runtime.arguments import BundleLike, as_bundle
from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.checks import StrPath, as_path

_MOST_BYTES = 1_900_000_000
"""A file of its own holds no more: protobuf ends at 2 GB."""


def export_label(bundle: BundleLike, out: StrPath) -> None:
    """Write the graph that labels an image, `label.onnx`: CAM, masks and SEPL in one.

    Args:
        bundle: a bundle with SAM and a classifier; its folder, or "demo".
        out: the file.

    Raises:
        BundleError: the bundle lacks a part.
        ExportError: the bundle's weights are too many for one file, or `out` is a file that this
            package has not written.
        OutputError: the file cannot be written.
    """
    path = _checked(out)
    _write(label_model(as_bundle(bundle)), path)


def export_everything(bundle: BundleLike, out: StrPath) -> None:
    """Write the graph of everything mode, `everything.onnx`: an image to all its masks.

    Args and errors are those of `export_label`; the bundle needs a SAM alone.
    """
    path = _checked(out)
    _write(everything_model(as_bundle(bundle)), path)


def export_refine(out: StrPath) -> None:
    """Write the graph of SEPL alone, `refine.onnx`: a pseudo label and masks to a label.

    Errors are those of `export_label`.
    """
    _write(refine_model(), _checked(out))


def _checked(out: StrPath) -> Path:
    """Return the file to write. Raises ExportError where it is another's."""
    path = as_path(out, "out")
    if path.suffix != ".onnx":
        raise ExportError(f"out is {path}, expected a name that ends in .onnx")
    if path.exists() and not _is_ours(path):
        raise ExportError(f"{path} exists and is no graph of this package's: choose another name")
    return path


def _is_ours(path: Path) -> bool:
    try:
        return str(onnx.load(path, load_external_data=False).producer_name) == PRODUCER
    except Exception:  # whatever it is, it is not ours
        return False


def _write(model: onnx.ModelProto, path: Path) -> None:
    if model.ByteSize() > _MOST_BYTES:
        raise ExportError(
            f"{path.name} would have {model.ByteSize() / 1e9:.1f} GB, expected at most "
            f"{_MOST_BYTES / 1e9:.1f}: use a smaller encoder"
        )
    write_bytes(path, model.SerializeToString(deterministic=True))
