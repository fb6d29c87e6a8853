"""Smaller number formats, written into the graph."""

from __future__ import annotations

import logging
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from samrefine_export.errors import ExportError

PRECISIONS = ("fp32", "int8")


def quantise_int8(path: Path) -> None:
    """Rewrite a graph in place with int8 matrix products, activations scaled as they come.

    Only products with weights (MatMul) are touched: quantised convolutions are slower on CPUs and
    ruin depthwise ones, and the products inside attention have no weights. Each output channel
    has its own scale.

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
            extra_options={"MatMulConstBOnly": True},
        )
    except Exception as error:
        raise ExportError(f"{path.name} cannot be quantised ({error})") from error
    finally:
        logging.getLogger().setLevel(level)
    quantised.replace(path)
