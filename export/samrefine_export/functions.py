"""Fused operators that every engine reads: model-local functions with a standard body.

ONNX lets a model define an operator in terms of others. ONNX Runtime and OpenVINO have a kernel of
their own for an operator of this name and never look at the definition; TensorRT, which has none,
reads the definition, and so does `onnx.inliner`. All compute the same.
"""

from __future__ import annotations

import onnx
from onnx import helper

from samrefine_export.errors import ExportError

DOMAIN = "com.microsoft"
"""ONNX Runtime's own operators."""

ATTENTION = "MultiHeadAttention"
"""Takes query (B, P, H a), key (B, P, H a) and value (B, P, H d), gives (B, P, H d)."""

HEAD_MULTIPLE = 8
"""Fused kernels want the channels a and d of a head to be multiples of it: TensorRT's attention,
and ONNX Runtime's memory-efficient one on CUDA."""

_PREFIX = "attention_function_"
"""Begins every name inside the function: TensorRT before 10.8 takes a tensor of the graph for the
function's input where both have one name."""


def define_functions(model: onnx.ModelProto) -> None:
    """Add the definitions of the fused operators that a graph uses, in place.

    Raises:
        ExportError: there is no definition for an operator, or none for its attributes.
    """
    nodes = [node for node in model.graph.node if node.domain]
    unknown = {node.op_type for node in nodes if (node.domain, node.op_type) != (DOMAIN, ATTENTION)}
    if unknown:
        raise ExportError(f"operators {', '.join(sorted(unknown))} have no definition")
    attributes = {(_attribute(node, "num_heads"), _attribute(node, "scale")) for node in nodes}
    if len(attributes) > 1 or any(scale != 1 for _, scale in attributes):
        raise ExportError(f"attention of (heads, scale) {attributes}, expected one pair of scale 1")
    standard = next(each for each in model.opset_import if not each.domain)
    for heads, _ in attributes:
        model.functions.append(_attention(int(heads), standard))


def _attribute(node: onnx.NodeProto, name: str) -> float:
    """Return a number that a node states, NaN where it does not."""
    values = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return float(values[0]) if values else float("nan")


def _attention(heads: int, opset: onnx.OperatorSetIdProto) -> onnx.FunctionProto:
    """Define attention of unscaled scores, softmax(q k^T) v per head.

    The number of heads is a constant of the body, so that its shapes take no arithmetic.
    """
    split, join = [0, 0, heads, -1], [0, 0, -1]  # 0 keeps an axis as it is
    body = [
        # Heads apart: q (B, H, P, a), k transposed (B, H, a, P), v (B, H, P, d)
        _constant("split", split),
        _node("Reshape", ["query", "split"], "query_heads"),
        _node("Transpose", ["query_heads"], "q", perm=[0, 2, 1, 3]),
        _node("Reshape", ["key", "split"], "key_heads"),
        _node("Transpose", ["key_heads"], "k", perm=[0, 2, 3, 1]),
        _node("Reshape", ["value", "split"], "value_heads"),
        _node("Transpose", ["value_heads"], "v", perm=[0, 2, 1, 3]),
        # Weights (B, H, P, P) over the positions of the keys, mixed values (B, H, P, d)
        _node("MatMul", ["q", "k"], "scores"),
        _node("Softmax", ["scores"], "weights", axis=-1),
        _node("MatMul", ["weights", "v"], "mixed"),
        # Heads side by side again, (B, P, H d)
        _node("Transpose", ["mixed"], "mixed_heads", perm=[0, 2, 1, 3]),
        _constant("join", join),
        _node("Reshape", ["mixed_heads", "join"], "output"),
    ]
    return helper.make_function(
        DOMAIN,
        ATTENTION,
        inputs=[_PREFIX + name for name in ("query", "key", "value")],
        outputs=[_PREFIX + "output"],
        nodes=body,
        opset_imports=[opset],
        attributes=["num_heads", "scale"],
    )


def _node(operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
    names = [_PREFIX + name for name in inputs]
    return helper.make_node(operator, names, [_PREFIX + output], _PREFIX + output, **attributes)


def _constant(name: str, shape: list[int]) -> onnx.NodeProto:
    value = helper.make_tensor(_PREFIX + name, onnx.TensorProto.INT64, [len(shape)], shape)
    return _node("Constant", [], name, value=value)
