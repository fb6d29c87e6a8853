"""Smaller number formats for the weights of a graph."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from samrefine_export.errors import ExportError

PRECISIONS = ("fp32", "int8")
"""Number formats of a bundle's encoder."""


def quantise_int8(path: Path) -> None:
    """Rewrite a graph in place with int8 matrix products, activations scaled at run time.

    Only the products of linear layers are touched: quantised convolutions are slower on CPUs and
    ruin depthwise ones, and the tables of relative positions are stacks of matrices, for which
    there is no kernel. Each output channel has its own scale.

    Raises:
        ExportError: the graph has its weights in external data, which the quantiser cannot read.
    """
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises on the root logger
    quantised = path.with_suffix(".int8.onnx")
    try:
        quantize_dynamic(
            path,
            quantised,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_not_layers(path),
            extra_options={"MatMulConstBOnly": True},
        )
    except Exception as error:
        raise ExportError(f"{path.name} cannot be quantised ({error})") from error
    finally:
        logging.getLogger().setLevel(level)
    quantised.replace(path)


def _not_layers(path: Path) -> list[str]:
    """Return the names of the matrix products whose right side is not one constant matrix."""
    graph = onnx.load(path, load_external_data=False).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    products = (node for node in graph.node if node.op_type == "MatMul")
    return [node.name for node in products if node.input[1] not in matrices]
