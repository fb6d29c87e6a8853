"""Finds the external data of ONNX models with the onnx package: another reader to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx


def messages(message: Any) -> Iterator[Any]:
    """Yield a message and all messages in it, whatever their fields are called."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from messages(each)


def locations(content: bytes) -> set[str]:
    """Return every location that the tensors of a serialised model give.

    Raises:
        Exception: the onnx package cannot read the model.
    """
    model = onnx.ModelProto.FromString(content)
    return {
        entry.value
        for each in messages(model)
        if isinstance(each, onnx.TensorProto)
        for entry in each.external_data
        if entry.key == "location"
    }


def operators(content: bytes) -> set[str]:
    """Return the names of the operators that a model uses anywhere."""
    model = onnx.ModelProto.FromString(content)
    return {each.op_type for each in messages(model) if isinstance(each, onnx.NodeProto)}
