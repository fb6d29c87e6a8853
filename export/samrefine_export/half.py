"""Half precision written into a graph: what is float16 or bfloat16, and what stays float32.

Engines that choose precisions by themselves are not to be had any more (TensorRT 11 does what the
graph says), and never said what they chose. So the graph states it, by types and casts:

* products (matrix products, convolutions, attention) take and give half, and so do their weights;
* sums over many values, norms, powers and sines are computed in single: their squares overflow or
  their rounding adds up;
* what a residual connection adds to stays single, so that a network's depth does not add up its
  rounding, and values beyond 65504 pass by;
* modules whose class sets `keeps_single` are computed in single as a whole;
* anything else is computed in what it is given, in single where it is given both;
* inputs and outputs of the graph stay single, so that graphs of all precisions fit each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from samrefine_export.errors import ExportError
from samrefine_export.functions import ATTENTION
from samrefine_export.lint import dtypes_of

HALVES: Mapping[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
"""ONNX's data types of the half precisions."""

_TORCH = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}

_SINGLE = TensorProto.FLOAT

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", ATTENTION})

_NORMS = frozenset({"LayerNormalization", "GroupNormalization", "InstanceNormalization"})
"""Computed in single, but what they give is of the order of one: it becomes half at once."""

_IN_SINGLE = _NORMS | {
    *("Cos", "Exp", "Log", "LogSoftmax", "Pow", "Reciprocal", "Sin", "Softplus", "Sqrt"),
    *("CumSum", "GlobalAveragePool", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
}
"""Operators whose squares or sums half cannot hold, or whose rounding it would make visible."""

_FIXED_INPUTS = {"BatchNormalization": {1, 2, 3, 4}, "Resize": {1, 2, 3}}
"""Inputs that stay single whatever the operator computes in."""

_CLASSES = "pkg.torch.onnx.class_hierarchy"
"""Where torch says which modules a node is from, outermost first."""


def to_half(model: onnx.ModelProto, precision: str, module: nn.Module) -> None:
    """Rewrite a float32 graph in half precision, in place.

    Args:
        model: as torch exports it, with its weights loaded.
        precision: one of HALVES.
        module: from which the graph was traced.

    Raises:
        ExportError: the graph has branches or loops.
    """
    rewriting = _Rewriting(model, HALVES[precision], frozenset(_kept_single(module)))
    for node in list(model.graph.node):
        rewriting.add(node)
    rewriting.finish()


def _kept_single(module: nn.Module) -> Iterator[str]:
    """Yield the names of all classes under a module that are computed in single."""
    for each in module.modules():
        if getattr(each, "keeps_single", False):
            yield f"{type(each).__module__}.{type(each).__qualname__}"


class _Rewriting:
    """A graph in the making: its nodes are added one after the other."""

    def __init__(self, model: onnx.ModelProto, half: int, kept_single: Collection[str]) -> None:
        _constants_to_weights(model.graph)
        self.graph, self.half, self.kept_single = model.graph, half, kept_single
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.floats = {name for name, kind in dtypes_of(model).items() if kind == "float32"}
        self.outputs = {value.name for value in model.graph.output}
        self.kinds = dict.fromkeys(self.floats, _SINGLE)
        self.names: dict[tuple[str, int], str] = {}
        self.leading = _Leading()
        self.nodes: list[onnx.NodeProto] = []

    def add(self, node: onnx.NodeProto) -> None:
        """Take a node over, in the precision it is to be computed in."""
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise ExportError(f"{node.name}: branches and loops cannot be in half precision")
        self.leading.add(node)
        kind = self._kind(node)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for place, name in self._values(node):
            new.input[place] = self._in(name, kind)
        self.nodes.append(new)
        for place, name in enumerate(node.output):
            if name in self.floats:
                new.output[place] = self._made(name, kind, is_norm=node.op_type in _NORMS)

    def _made(self, name: str, kind: int, *, is_norm: bool) -> str:
        """Note that a tensor is made in a type; return what its node is to call it."""
        is_output = name in self.outputs
        # The graph's outputs keep their names in single, what norms give has its name in half
        wanted = _SINGLE if is_output else self.half if is_norm else kind
        self.kinds[name] = wanted
        if kind == wanted:
            return name
        made = self.names[name, kind] = _called(name, kind)
        self.nodes.append(_cast(made, name, wanted))
        return made

    def finish(self) -> None:
        """Put nodes and weights in place of the old ones."""
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input} | self.outputs
        kept = [tensor for tensor in self.weights.values() if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        # What the graph says of its inner tensors has to be true
        for value in self.graph.value_info:
            if value.name in self.floats:
                value.type.tensor_type.elem_type = self.kinds[value.name]

    def _kind(self, node: onnx.NodeProto) -> int:
        """Return the type that a node is computed in."""
        values = [name for _, name in self._values(node)]
        computed = [name for name in values if name not in self.weights]
        if not self._fit(values) or node.op_type in _IN_SINGLE or self._is_kept(node):
            return _SINGLE
        if node.op_type in _PRODUCTS:
            return self.half
        if node.op_type == "Add" and len(computed) == 2 and self.leading.between(*computed):
            return _SINGLE
        is_half = [self.kinds[name] == self.half for name in computed]
        return self.half if is_half and all(is_half) else _SINGLE

    def _is_kept(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is from a module that is computed in single."""
        classes = [entry.value for entry in node.metadata_props if entry.key == _CLASSES]
        return any(f"'{kept}'" in each for each in classes for kept in self.kept_single)

    def _values(self, node: onnx.NodeProto) -> list[tuple[int, str]]:
        """Return the inputs of a node that are in the type it is computed in, by place."""
        if node.op_type in ("Cast", "Shape", "Size"):  # take any type
            return []
        fixed = _FIXED_INPUTS.get(node.op_type, set())
        return [(i, n) for i, n in enumerate(node.input) if n in self.floats and i not in fixed]

    def _fit(self, names: Collection[str]) -> bool:
        """Return whether half holds all weights among some tensors."""
        return all(_fits(self.weights[name], self.half) for name in names if name in self.weights)

    def _in(self, name: str, kind: int) -> str:
        """Return the name of a tensor in a type, cast if it is needed for the first time."""
        if self.kinds[name] == kind:
            return name
        if (name, kind) not in self.names:
            made = self.names[name, kind] = _called(name, kind)
            if name in self.weights:
                self.weights[made] = _converted(self.weights[name], made, kind)
            else:
                self.nodes.append(_cast(name, made, kind))
        return self.names[name, kind]


class _Leading:
    """Which tensors lead to which, as sets of bits."""

    def __init__(self) -> None:
        self.bits: dict[str, int] = {}
        self.before: dict[str, int] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Learn of a node, after those that its inputs are from."""
        leading = 0
        for name in node.input:
            leading |= self.before.get(name, 0) | self._bit(name)
        for name in node.output:
            self.before[name] = leading

    def between(self, one: str, other: str) -> bool:
        """Return whether one of two tensors leads to the other."""
        forward = self.before.get(other, 0) & self._bit(one)
        return bool(forward or self.before.get(one, 0) & self._bit(other))

    def _bit(self, name: str) -> int:
        return self.bits.setdefault(name, 1 << len(self.bits))


def _called(name: str, kind: int) -> str:
    """Return what a tensor is called in another type than its own."""
    return f"{name}_{'single' if kind == _SINGLE else 'half'}"


def _cast(name: str, made: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [made], f"{made}_cast", to=kind)


def _constants_to_weights(graph: onnx.GraphProto) -> None:
    """Make weights of the tensors that nodes hold, so that they can be converted like others."""
    for node in [each for each in graph.node if each.op_type == "Constant"]:
        (attribute,) = node.attribute
        if attribute.name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            graph.node.remove(node)


def _fits(tensor: TensorProto, half: int) -> bool:
    """Return whether a weight survives conversion: nothing overflows, no factor becomes zero."""
    values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    converted = values.to(_TORCH[half]).float()
    is_lost = values.numel() == 1 and bool(((converted == 0) & (values != 0)).any())
    return bool(converted.isfinite().all()) and not is_lost


def _converted(tensor: TensorProto, name: str, half: int) -> TensorProto:
    """Return a weight in half precision."""
    values = torch.from_numpy(np.ascontiguousarray(numpy_helper.to_array(tensor)).copy())
    raw = values.to(_TORCH[half]).view(torch.int16).numpy().tobytes()
    return helper.make_tensor(name, half, list(tensor.dims), raw, raw=True)
