"""Exports one torch module to one ONNX file, and lets files share their weights."""

from __future__ import annotations

import hashlib
import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import torch
from onnx.external_data_helper import set_external_data
from torch import Tensor, nn

from samrefine_export.errors import ExportError, first_line
from samrefine_export.functions import define_functions
from samrefine_export.half import to_half

OPSET = 20
"""Gelu and LayerNormalization are single operators from 20 on."""

_SHARED_FROM = 1024
"""Bytes from which a tensor is worth a place in the shared file."""

_ALIGNMENT = 64
"""Bytes, so that runtimes can map the file into memory."""

_EMBEDDED_LIMIT = 1_800_000_000
"""Bytes of weights beyond which they go to external data: protobuf ends at 2 GB."""

_LARGEST_DIM = 1 << 20
"""Upper bound of every dynamic axis, far beyond any number of prompts or points."""


def export_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    halves: Sequence[str] = (),
) -> dict[str, Path]:
    """Write `module(*inputs)` as ONNX.

    Args:
        module: in evaluation mode.
        inputs: example inputs by name, in the order of `forward`.
        outputs: names of the outputs, in order.
        path: file to write; weights over 1.8 GB go beside it as `<name>.data`.
        dynamic: axes that may change, by input name: {axis: name}. One name, one size.
        halves: half precisions to write it in too, as `<name>.<precision>.onnx` beside it.

    Returns:
        The files of `halves`, by precision.

    Raises:
        ExportError: torch cannot export the module, or it cannot be written in half precision.
    """
    axes = {name: dict((dynamic or {}).get(name, {})) for name in inputs}
    weight_bytes = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch warns of and logs its own inner workings in every export
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=_by_parameter(module, [_dims(a) for a in axes.values()]),
                verbose=False,
            )
    except Exception as error:  # torch.export raises many types
        raise ExportError(f"torch cannot export {path.name}: {first_line(error)}") from error
    assert program is not None  # only without dynamo
    program.save(str(path), external_data=weight_bytes > _EMBEDDED_LIMIT)
    written = {half: write_half(path, half, module) for half in halves}
    _finish(path)
    return written


def share_weights(paths: Sequence[Path], data: Path) -> None:
    """Move the weights of several graphs into one external data file, equal ones once.

    Args:
        paths: graphs without external data, in the folder of `data`; rewritten in place.
        data: file to write.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with data.open("wb") as file:
        for path in paths:
            model = onnx.load(path)
            # Small tensors stay inside: shape inference reads them
            for tensor in model.graph.initializer:
                if tensor.ByteSize() >= _SHARED_FROM:
                    _move_out(tensor, file, data.name, places)
            path.write_bytes(model.SerializeToString(deterministic=True))


def _move_out(
    tensor: onnx.TensorProto, file: BinaryIO, name: str, places: dict[bytes, tuple[int, int]]
) -> None:
    """Refer `tensor` to its bytes in the shared file, writing them where they are new.

    Args:
        tensor: changed in place.
        file: open for writing.
        name: of the file, as the graph is to call it.
        places: offset and length of all bytes written so far, by their hash; extended.
    """
    raw = onnx.numpy_helper.to_array(tensor).tobytes()
    key = hashlib.sha256(raw).digest()
    if key not in places:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        places[key] = (file.tell(), len(raw))
        file.write(raw)
    # onnx sets external data only on tensors that hold raw bytes
    tensor.raw_data = raw
    set_external_data(tensor, name, *places[key])
    tensor.ClearField("raw_data")


def _by_parameter(module: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return values one per parameter of `forward`, those of `*args` in a tuple of their own."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if parameters[-1].kind is not inspect.Parameter.VAR_POSITIONAL:
        return tuple(values)
    named = len(parameters) - 1
    return (*values[:named], tuple(values[named:]))


def _dims(axes: Mapping[int, str]) -> dict[int, Any]:
    # A single prompt is a valid batch
    return {axis: torch.export.Dim(name, min=1, max=_LARGEST_DIM) for axis, name in axes.items()}


def write_half(path: Path, precision: str, module: nn.Module) -> Path:
    """Write a graph once more in half precision, as `<name>.<precision>.onnx` beside it.

    Args:
        path: the graph as torch has exported it from `module`.
        precision: see `to_half`.
        module: see `to_half`.

    Returns:
        The file.

    Raises:
        ExportError: it cannot be written in half precision.
    """
    half = path.with_name(f"{path.stem}.{precision}.onnx")
    model = onnx.load(path)
    define_functions(model)
    to_half(model, precision, module)
    _strip_traces(model)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    is_large = size > _EMBEDDED_LIMIT
    onnx.save(model, half, save_as_external_data=is_large, location=f"{half.stem}.data")
    return half


def _finish(path: Path) -> None:
    """Define the graph's functions and drop what torch adds for debugging, in place."""
    model = onnx.load(path, load_external_data=False)
    define_functions(model)
    _strip_traces(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _strip_traces(model: onnx.ModelProto) -> None:
    """Drop the Python stack traces that torch stores with every node.

    They hold the paths of the exporting machine and change from one machine to the next.
    """
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
    for item in (*model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")
