"""The precisions of a bundle: what its graphs are written in, and how int8 is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from samrefine_export.errors import ExportError
from samrefine_runtime.bundle import HALVES
from samrefine_runtime.checks import described

OWN = ("fp32", "int8")
"""Precisions of a bundle's own graphs; int8 concerns the encoder."""

PRECISIONS = (*OWN, *HALVES)
"""All precisions; graphs in those of HALVES lie beside the bundle's own."""


class Precisions(NamedTuple):
    """What the graphs of a bundle are written in."""

    own: str
    """One of OWN."""
    halves: tuple[str, ...]
    """Those of HALVES in which the graphs are written once more."""

    @classmethod
    def of(cls, given: str | Sequence[str], own: Sequence[str] = OWN) -> Precisions:
        """Read precisions: one, several separated by commas, or a sequence.

        Args:
            given: the precisions in any order; the bundle's own graphs are in fp32 unless another
                one of `own` is among them.
            own: what a bundle's own graphs may be written in.

        Raises:
            ExportError: an unknown precision, or two for the bundle's own graphs.
        """
        names = given.split(",") if isinstance(given, str) else given
        known = (*own, *HALVES)
        if not isinstance(names, Sequence) or not names or any(n not in known for n in names):
            raise ExportError(
                f"precision is {described(given)}, expected one or more of {', '.join(known)}"
            )
        chosen = [name for name in own if name in names] or ["fp32"]
        if len(chosen) > 1:
            raise ExportError(f"precision is {described(given)}, expected one of {', '.join(own)}")
        return cls(chosen[0], tuple(half for half in HALVES if half in names))


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
