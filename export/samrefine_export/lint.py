"""The contract of a bundle's graphs, as a check: which engines take a graph, and why not others.

It reads a graph as an engine's importer does, without running it: what an engine says of it in the
end depends on the machine too. Functions are read by their bodies, so an engine with a kernel of
its own for one is held to the body as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import onnx.inliner
from onnx import helper
from onnx.external_data_helper import ExternalDataInfo, set_external_data, uses_external_data

from samrefine_export.engines import ENGINES, Engine, Position
from samrefine_export.functions import ATTENTION, HEAD_MULTIPLE

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""File names that every engine on every system finds beside the graph."""

_SMALL = 1024
"""Bytes of a weight that shape inference may read; the rest is not carried along."""

_SHAPES = frozenset(
    Position(name, index)
    for name, indices in {
        "Reshape": [1],
        "Expand": [1],
        "ConstantOfShape": [0],
        "Range": [0, 1, 2],
        "Slice": [1, 2, 4],
        "Tile": [1],
        "Pad": [1],
        "Resize": [2, 3],
        "TopK": [1],
        "OneHot": [1],
    }.items()
    for index in indices
)
"""Inputs that say how large an output is."""

_DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators whose output is as large as values have it."""

_VALUE_INPUT = {"Where": 1}
"""The input whose dtype an operator computes in, where it is not the first."""

_HEAD_SIZES = range(16, 257)
"""Channels of a head that fused attention kernels have room for."""


def refusals(path: Path) -> dict[str, list[str]]:
    """Return by engine what it does not take of a graph, nothing if it takes it.

    Args:
        path: the .onnx file; its external data is not read.
    """
    model = onnx.load(path, load_external_data=False)
    everywhere = [*_names([path.name, *external_files(model)]), *_functions(model)]
    model = _without_weights(model)
    plain = onnx.inliner.inline_local_functions(model)
    graph = _Graph(onnx.shape_inference.infer_shapes(plain, data_prop=True))
    return {engine.name: [*everywhere, *_counted(graph.refusals(engine))] for engine in ENGINES}


def slow_attention(path: Path) -> list[str]:
    """Return what keeps fused kernels from running the attention of a graph, nothing if they do."""
    model = onnx.shape_inference.infer_shapes(
        _without_weights(onnx.load(path, load_external_data=False))
    )
    widths = {v.name: _last_side(v) for v in (*model.graph.value_info, *model.graph.input)}
    found = []
    for node in model.graph.node:
        if node.op_type != ATTENTION:
            continue
        heads = next(helper.get_attribute_value(a) for a in node.attribute if a.name == "num_heads")
        for name in node.input:
            size = widths.get(name, 0) // heads
            if size not in _HEAD_SIZES or size % HEAD_MULTIPLE:
                found.append(
                    f"{node.name}: {size} channels of a head, expected a multiple of "
                    f"{HEAD_MULTIPLE} from {_HEAD_SIZES.start} to {_HEAD_SIZES.stop - 1}"
                )
    return found


class _Graph:
    """A graph without functions, whose dtypes are known."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = model.graph.node
        self.opset = max(each.version for each in model.opset_import if not each.domain)
        self.interface = {v.name for v in (*model.graph.input, *model.graph.output)}
        self.dtypes = _dtypes(model.graph)
        self.constants = _constants(model.graph)
        # What follows from shapes alone is known before any value is
        self.known = set(self.constants)
        for node in self.nodes:
            from_shapes = node.op_type in ("Shape", "Size") and not node.domain
            if from_shapes or all(name in self.known for name in node.input if name):
                self.known.update(node.output)

    def refusals(self, engine: Engine) -> Iterator[str]:
        """Yield what an engine does not take, once for each place."""
        if self.opset > engine.newest_opset:
            yield f"opset {self.opset}, expected at most {engine.newest_opset}"
        for node in self.nodes:
            yield from self._refusals_of_node(node, engine)
        if not engine.has_inner_uint8:
            inner = [n for n, dtype in self.dtypes.items() if dtype == "uint8"]
            if not self.interface.issuperset(inner):
                yield "uint8 inside the graph, expected it as an input or output only"

    def _refusals_of_node(self, node: onnx.NodeProto, engine: Engine) -> Iterator[str]:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        taken = None if node.domain else engine.operators.get(node.op_type)
        if node.op_type in _DATA_DEPENDENT and not engine.has_data_dependent_shapes:
            yield f"{name} has an output as large as its values say"
            return
        if taken is None:
            yield f"operator {name}"
            return
        for tensor in self._values(node):
            dtype = self.dtypes.get(tensor)
            if dtype is not None and dtype not in taken:
                yield f"operator {name} of {dtype}"
        for index, tensor in enumerate(node.input):
            position = Position(node.op_type, index)
            if position in engine.constants and tensor and tensor not in self.constants:
                yield f"input {index} of {name} is computed, expected a constant"
            is_open = position in _SHAPES and tensor and tensor not in self.known
            if is_open and not engine.has_data_dependent_shapes:
                yield f"{name} makes a shape that depends on values"

    def _values(self, node: onnx.NodeProto) -> Sequence[str]:
        """Return the tensors whose dtype an engine has a kernel for."""
        if node.op_type in ("Cast", "CastLike"):
            return [node.input[0], node.output[0]]
        index = _VALUE_INPUT.get(node.op_type, 0)
        return [node.input[index]] if len(node.input) > index else [node.output[0]]


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the content of all large weights, in place: dtypes and shapes are enough."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > _SMALL:
            set_external_data(tensor, "dropped")
            tensor.ClearField("raw_data")
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of the external data files of a graph, each once."""
    tensors = model.graph.initializer
    return sorted({ExternalDataInfo(t).location for t in tensors if uses_external_data(t)})


def _names(files: Sequence[str]) -> Iterator[str]:
    """Yield file names that not every engine can open beside the graph."""
    for file in files:
        if not _PLAIN_NAME.fullmatch(file):
            yield f"file name {file!r}, expected letters, digits, '_', '-' and '.' alone"


def _functions(model: onnx.ModelProto) -> Iterator[str]:
    """Yield names that a function has in common with the graph or with another function.

    TensorRT before 10.8 takes one for the other.
    """
    outside = Counter(_tensors(model.graph.node))
    for function in model.functions:
        outside.update({*_tensors(function.node), *function.input})
    names = {name for function in model.functions for name in _tensors(function.node)}
    shared = sorted(name for name in names if outside[name] > 1)
    if shared:
        yield f"tensor {shared[0]!r} inside a function and outside of it"


def _tensors(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in (*node.input, *node.output) if name}


def dtypes_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the dtypes of all tensors of a graph that can be inferred, by name."""
    shape_only = onnx.ModelProto()
    shape_only.CopyFrom(model)
    return _dtypes(onnx.shape_inference.infer_shapes(_without_weights(shape_only)).graph)


def _dtypes(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the dtypes of all tensors whose dtype is known, by name."""
    kinds = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kinds[value.name] = value.type.tensor_type.elem_type
    return {name: _dtype_name(kind) for name, kind in kinds.items() if kind}


def _dtype_name(kind: int) -> str:
    # NumPy has no name for bfloat16
    if kind == onnx.TensorProto.BFLOAT16:
        return "bfloat16"
    return helper.tensor_dtype_to_np_dtype(kind).name


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Return the names of weights and of what `Constant` makes."""
    made = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    return {tensor.name for tensor in graph.initializer} | made


def _last_side(value: onnx.ValueInfoProto) -> int:
    """Return the length of the last axis of a tensor, 0 where it is unknown."""
    dims = value.type.tensor_type.shape.dim
    return dims[-1].dim_value if dims else 0


def _counted(refusals: Iterator[str]) -> list[str]:
    """Return each refusal once, with the number of places, most frequent first."""
    counts = Counter(refusals).most_common()
    return [text if count == 1 else f"{text} ({count} times)" for text, count in counts]
