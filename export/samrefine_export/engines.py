"""What the inference engines take: operators, dtypes and inputs that must be constants.

TensorRT's figures are those of its importer's `docs/operators.md` (onnx-tensorrt), ONNX Runtime's
those of the kernels it registers for CPUs, OpenVINO's those of its ONNX frontend's
`docs/supported_ops.md`. Only operators that networks for images use are listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

_KINDS: Mapping[str, frozenset[str]] = {
    "f": frozenset({"float32", "float16"}),
    "h": frozenset({"bfloat16"}),
    "d": frozenset({"float64"}),
    "i": frozenset({"int32", "int64"}),
    "b": frozenset({"bool"}),
    "u": frozenset({"uint8", "int8"}),
}
"""Dtypes by the letters of the tables below. ONNX Runtime computes float16 on CPUs in float32."""

Operators = Mapping[str, frozenset[str]]
"""Dtypes by operator."""


class Position(NamedTuple):
    """An input of an operator."""

    operator: str
    place: int
    """From 0."""


@dataclass(frozen=True)
class Engine:
    """What one engine takes."""

    name: str
    """As manifests and `samrefine inspect` have it."""
    newest_opset: int
    operators: Operators
    constants: frozenset[Position] = frozenset()
    """Inputs that must be constants of the graph."""
    has_data_dependent_shapes: bool = True
    """Whether shapes may depend on values of other tensors."""
    has_inner_uint8: bool = True
    """Whether uint8 tensors may be other than inputs and outputs of the graph."""


def _operators(**names_by_kinds: str) -> Operators:
    """Return a table of operators by what they take, as letters of _KINDS."""
    return {
        name: frozenset().union(*(_KINDS[kind] for kind in kinds))
        for kinds, names in names_by_kinds.items()
        for name in names.split()
    }


_TENSORRT = _operators(
    fh="""AveragePool BatchNormalization Ceil Clip Conv ConvTranspose Cos CumSum Einsum Elu Erf Exp
    Floor Gemm GlobalAveragePool GlobalMaxPool GridSample GroupNormalization HardSigmoid HardSwish
    InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax MatMul MaxPool Mish
    PRelu Pow Reciprocal Resize Round Sigmoid Sin Softmax Softplus Softsign Sqrt Tanh""",
    fhi="""Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less
    LessOrEqual Max Mean Min Mod Mul Neg Pad Range ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND Sign SpaceToDepth Sub Sum
    TopK""",
    fhib="""Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity
    OneHot Reshape Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where""",
    fhibu="Cast CastLike",
    b="And Not Or Xor",
)

_ONNXRUNTIME = _operators(
    f="""AveragePool Conv ConvTranspose DynamicQuantizeLinear Elu Erf Gelu GlobalAveragePool
    GlobalMaxPool GroupNormalization HardSigmoid HardSwish InstanceNormalization LeakyRelu Mean Mish
    PRelu QuantizeLinear Softplus Softsign""",
    fd="""BatchNormalization Ceil Cos Exp Floor Gemm GridSample IsInf IsNaN LayerNormalization Log
    LogSoftmax Reciprocal Relu Round Sigmoid Sin Softmax Sqrt Sum Tanh""",
    fi="OneHot",
    fu="Resize",
    fdi="""CumSum Einsum MatMul Neg Pow Range ReduceL1 ReduceL2 ReduceMean ReduceProd ReduceSum
    ReduceSumSquare""",
    fdu="DepthToSpace MaxPool SpaceToDepth",
    fdib="Trilu",
    fdiu="""Abs Add ArgMax ArgMin Clip Div Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul
    Sign Sub TopK Where""",
    fib="NonZero",
    fdibu="Equal Expand Pad ReduceMax ReduceMin Size Tile",
    fhdibu="""Cast CastLike Concat Constant ConstantOfShape Flatten Gather GatherElements GatherND
    Identity Reshape ScatterElements ScatterND Shape Slice Split Squeeze Transpose Unsqueeze""",
    b="And Not Or Xor",
    u="DequantizeLinear MatMulInteger",
)
_OPENVINO = _operators(fhdibu=" ".join(_ONNXRUNTIME))

_REDUCTIONS = [name for name in _TENSORRT if name.startswith("Reduce")]

_TENSORRT_CONSTANTS = frozenset(
    [Position(name, 1) for name in (*_REDUCTIONS, "CumSum", "Split", "Squeeze", "Unsqueeze")]
    + [Position(name, 3) for name in ("Pad", "Slice")]
)
"""Axes, and the lengths that `Split` makes."""

ENGINES = (
    Engine("onnxruntime", 20, _ONNXRUNTIME),
    Engine("openvino", 20, _OPENVINO),
    *(
        Engine(
            name,
            opset,
            _TENSORRT,
            _TENSORRT_CONSTANTS,
            has_data_dependent_shapes=False,
            has_inner_uint8=False,
        )
        for name, opset in (("tensorrt-10.3", 20), ("tensorrt-11", 24))
    ),
)
"""All engines that a bundle may be run in."""
