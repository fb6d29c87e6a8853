"""Writes ONNX graphs in Python's own terms: values with operators, loops as functions.

A torch module cannot say "for each chunk of prompts, as many as there are", and an exporter's
translation of it is not ours to read. So what lies between the networks is written here node by
node, and the networks' own graphs are included as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Operand = "Value | float | Sequence[float]"
"""A value, or numbers that become a constant of the other operand's dtype."""

_KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


def _as_int32(operand: Any) -> Any:
    return operand.to("int32") if isinstance(operand, Value) else operand


class Value:
    """A tensor of the graph."""

    def __init__(self, graph: Graph, name: str, dtype: str):
        self.graph, self.name, self.dtype = graph, name, dtype

    def _with(self, operator: str, other: Any, dtype: str | None = None) -> Value:
        return self.graph.op(operator, self, other, dtype=dtype)

    def __add__(self, other: Any) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> Value:
        return self.graph.constant(other, self.dtype) - self

    def __mul__(self, other: Any) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._with("Div", other)

    def __matmul__(self, other: Any) -> Value:
        return self._with("MatMul", other)

    def __lt__(self, other: Any) -> Value:
        return self._with("Less", other, "bool")

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)

    def __le__(self, other: Any) -> Value:
        return self._with("LessOrEqual", other, "bool")

    def __gt__(self, other: Any) -> Value:
        return self._with("Greater", other, "bool")

    def __ge__(self, other: Any) -> Value:
        return self._with("GreaterOrEqual", other, "bool")

    def equals(self, other: Any) -> Value:
        """Compare element by element."""
        if self.dtype == "uint8":  # which ONNX Runtime before 1.21 does not compare
            return self.to("int32").equals(_as_int32(other))
        return self._with("Equal", other, "bool")

    def or_larger(self, other: Value) -> Value:
        """Return the larger bytes, element by element."""
        # Not by Max, nor by Greater: ONNX Runtime before 1.24, and before 1.21, has none of bytes
        return self.graph.where(self.to("int32") > other.to("int32"), self, other)

    def __and__(self, other: Value) -> Value:
        return self._with("And", other)

    def __or__(self, other: Value) -> Value:
        return self._with("Or", other)

    def __invert__(self) -> Value:
        return self.graph.op("Not", self)

    def to(self, dtype: str) -> Value:
        """Convert to another dtype."""
        if dtype == self.dtype:
            return self
        return self.graph.op("Cast", self, dtype=dtype, to=_KINDS[dtype])

    def reshape(self, *sides: int | Value) -> Value:
        """Give another shape; sides are numbers, or values of shape (1,) int64."""
        return self.graph.op("Reshape", self, self.graph.shape_of(*sides))

    def transpose(self, *axes: int) -> Value:
        """Order the axes anew."""
        return self.graph.op("Transpose", self, perm=list(axes))

    def unsqueeze(self, *axes: int) -> Value:
        """Add axes of length 1."""
        return self.graph.op("Unsqueeze", self, self.graph.constant(axes, "int64"))

    def squeeze(self, *axes: int) -> Value:
        """Drop axes of length 1."""
        return self.graph.op("Squeeze", self, self.graph.constant(axes, "int64"))

    def side(self, axis: int) -> Value:
        """Return the length of an axis, (1,) int64."""
        end = {} if axis == -1 else {"end": axis + 1}
        return self.graph.op("Shape", self, dtype="int64", start=axis, **end)

    def slice(self, axis: int, start: int | Value, stop: int | Value) -> Value:
        """Cut a part out of one axis; bounds are numbers, or values of shape (1,) int64."""
        bounds = [self.graph.shape_of(each) for each in (start, stop)]
        return self.graph.op("Slice", self, *bounds, self.graph.constant([axis], "int64"))

    def take(self, indices: Value, axis: int = 0) -> Value:
        """Take elements along an axis."""
        return self.graph.op("Gather", self, indices, axis=axis)

    def reduce(self, operator: str, *axes: int, keep: bool = False) -> Value:
        """Reduce axes by an operator such as "Max"."""
        constant = self.graph.constant(axes, "int64")
        return self.graph.op(f"Reduce{operator}", self, constant, keepdims=int(keep))


class Stacked(NamedTuple):
    """What every run of a loop gives one of."""

    dtype: str
    shape: tuple[int | str, ...] = ()
    """Of each axis its length, or a name."""


class Shared(NamedTuple):
    """What a graph has in common with the bodies of its loops."""

    weights: list[TensorProto]
    names: dict[tuple[int, tuple[int, ...], bytes], str]
    functions: dict[tuple[str, str], onnx.FunctionProto]


class Graph:
    """A graph in the making; inside `loop` and `either`, the body that is being written."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._shared = Shared([], {}, {})
        self._count = 0

    def value(self, dtype: str, hint: str = "v") -> Value:
        """Return a value of a new name."""
        self._count += 1
        return Value(self, f"{hint}_{self._count}", dtype)

    def op(self, operator: str, *inputs: Any, dtype: str | None = None, **attributes: Any) -> Value:
        """Add a node with one output.

        Args:
            operator: of the standard domain.
            inputs: values; numbers take the dtype of the first value; None leaves one out.
            dtype: of the output; by default that of the first value.
            attributes: of the operator.
        """
        first = next(each for each in inputs if isinstance(each, Value))
        made = self.value(dtype or first.dtype, operator.lower())
        self._add(operator, self._named(inputs, first.dtype), [made.name], attributes)
        return made

    def ops(
        self, operator: str, *inputs: Value, dtypes: Sequence[str], **attributes: Any
    ) -> list[Value]:
        """Add a node of several outputs."""
        made = [self.value(dtype, operator.lower()) for dtype in dtypes]
        self._add(operator, self._named(inputs, ""), [each.name for each in made], attributes)
        return made

    def _named(self, inputs: Sequence[Any], dtype: str) -> list[str]:
        return ["" if each is None else self._as_value(each, dtype).name for each in inputs]

    def _as_value(self, given: Any, dtype: str) -> Value:
        return given if isinstance(given, Value) else self.constant(given, dtype)

    def _add(
        self, operator: str, inputs: list[str], outputs: list[str], attributes: Mapping[str, Any]
    ) -> None:
        self._nodes.append(helper.make_node(operator, inputs, outputs, outputs[0], **attributes))

    def constant(self, value: Any, dtype: str) -> Value:
        """Return a constant; equal ones are one."""
        return Value(self, self.weight(numpy_helper.from_array(np.array(value, dtype))), dtype)

    def weight(self, tensor: TensorProto) -> str:
        """Add a weight, unless an equal one is there; return its name."""
        array = numpy_helper.to_array(tensor)
        key = (tensor.data_type, array.shape, array.tobytes())
        if key not in self._shared.names:
            kept = self._shared.weights
            self._shared.names[key] = f"w_{len(kept)}"
            kept.append(numpy_helper.from_array(array, self._shared.names[key]))
        return self._shared.names[key]

    def shape_of(self, *sides: int | Value) -> Value:
        """Return a shape (N,) int64 of numbers and values of shape (1,)."""
        if all(isinstance(side, int) for side in sides):
            return self.constant(sides, "int64")
        parts = [
            side if isinstance(side, Value) else self.constant([side], "int64") for side in sides
        ]
        return self.join(*parts) if len(parts) > 1 else parts[0]

    def join(self, *values: Value, axis: int = 0) -> Value:
        """Put values one after the other along an axis."""
        return self.op("Concat", *values, axis=axis)

    def where(self, condition: Value, one: Value, other: Any) -> Value:
        """Take from one value where the condition holds, else from the other."""
        return self.op("Where", condition, one, self._as_value(other, one.dtype), dtype=one.dtype)

    def full(self, shape: Value, value: float, dtype: str) -> Value:
        """Return a value that is the same everywhere."""
        tensor = numpy_helper.from_array(np.array([value], dtype))
        return self.op("ConstantOfShape", shape, dtype=dtype, value=tensor)

    def range(self, stop: Value) -> Value:
        """Return the numbers from 0 to a value (1,) int64, without it, (N,) int64."""
        return self.op(
            "Range", self.constant(0, "int64"), stop.squeeze(0), self.constant(1, "int64")
        )

    def include(
        self, model: onnx.ModelProto, prefix: str, feeds: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Add the nodes of a whole graph; return its outputs by name.

        Args:
            model: without branches and loops, its weights loaded.
            prefix: begins the names of its tensors here.
            feeds: its inputs by name.
        """
        names = {name: value.name for name, value in feeds.items()}
        names |= {tensor.name: self.weight(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            names |= {name: f"{prefix}.{name}" for name in node.output if name}
            copied.name = f"{prefix}.{node.name}"
            copied.input[:] = [names[name] if name else "" for name in node.input]
            copied.output[:] = [names[name] if name else "" for name in node.output]
            self._nodes.append(copied)
        for function in model.functions:
            self._shared.functions[function.domain, function.name] = function
        return {
            value.name: Value(self, names[value.name], _dtype(value))
            for value in model.graph.output
        }

    def loop(
        self,
        trips: Value,
        carried: Sequence[Value],
        body: Callable[..., Sequence[Value]],
        stacked: Sequence[Stacked] = (),
    ) -> list[Value]:
        """Run a body so many times.

        Args:
            trips: (1,) int64.
            carried: what the first run is given; shapes may change from run to run.
            body: called once, with the number of the run () int64 and what is carried; returns
                what the next run is given, then what is stacked.
            stacked: what every run gives one of.

        Returns:
            What the last run carried on, then the stacks, runs first.
        """
        count, going = self.value("int64", "run"), self.value("bool", "going")
        given = [self.value(each.dtype, "carried") for each in carried]
        with self._body() as nodes:
            results = [self.op("Identity", each) for each in body(count, *given)]
            goes_on = self.op("Identity", going)
        shapes: dict[str, Sequence[int | str]] = {each.name: () for each in (count, going, goes_on)}
        for made, kind in zip(results[len(carried) :], stacked, strict=True):
            shapes[made.name] = kind.shape
        graph = _body_of(nodes, [count, going, *given], [goes_on, *results], shapes)
        return self.ops(
            "Loop",
            trips.squeeze(0),
            self.constant(True, "bool"),
            *carried,
            dtypes=[*(each.dtype for each in carried), *(each.dtype for each in stacked)],
            body=graph,
        )

    def either(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """Run one of two bodies by a condition () bool; both return values of the same dtypes."""
        graphs, dtypes = [], []
        for body in (then, otherwise):
            with self._body() as nodes:
                results = [self.op("Identity", each) for each in body()]
            graphs.append(_body_of(nodes, [], results, {}))
            dtypes = [each.dtype for each in results]
        attributes = dict(zip(("then_branch", "else_branch"), graphs, strict=True))
        return self.ops("If", condition, dtypes=dtypes, **attributes)

    @contextmanager
    def _body(self) -> Iterator[list[onnx.NodeProto]]:
        outside, self._nodes = self._nodes, []
        try:
            yield self._nodes
        finally:
            self._nodes = outside

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[tuple[Value, onnx.ValueInfoProto]],
        defaults: Mapping[str, np.ndarray[Any, Any]],
        opset: int,
    ) -> onnx.ModelProto:
        """Return the graph.

        Args:
            inputs: without the name of any value made here.
            outputs: values, and what they are called and described as.
            defaults: of inputs that need not be given, by name.
            opset: of the standard domain.
        """
        for value, described in outputs:
            self._nodes.append(
                helper.make_node("Identity", [value.name], [described.name], described.name)
            )
        weights = [numpy_helper.from_array(array, name) for name, array in defaults.items()]
        graph = helper.make_graph(
            self._nodes,
            "samrefine",
            inputs,
            [described for _, described in outputs],
            [*weights, *self._shared.weights],
        )
        domains = {function.domain for function in self._shared.functions.values()}
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            functions=list(self._shared.functions.values()),
            ir_version=_IR_VERSION,
            producer_name=PRODUCER,
        )


PRODUCER = "samrefine_export"
"""Who has written a graph, as the file says."""

_IR_VERSION = 9
"""From 8 on models have functions; 10 is too new for older runtimes."""


def _body_of(
    nodes: list[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    shapes: Mapping[str, Sequence[int | str]],
) -> onnx.GraphProto:
    """Return the body of a loop or branch; all shapes but the given ones are open."""
    described = [
        [
            helper.make_tensor_value_info(each.name, _KINDS[each.dtype], shapes.get(each.name))
            for each in values
        ]
        for values in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "body", *described)


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
