"""Writes ONNX models byte by byte, also such as no exporter makes, without the onnx package."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Encode a number, lowest seven bits first."""
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def key(number: int, wire_type: int = 2) -> bytes:
    """Encode what a field begins with; wire type 2 is a text or message, 0 a number."""
    return varint(number << 3 | wire_type)


def field(number: int, value: int | str | bytes) -> bytes:
    """Encode a field: a number, or a text or message with its length."""
    if isinstance(value, int):
        return key(number, 0) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return key(number) + varint(len(content)) + content


def model(graph: bytes = b"", functions: bytes = b"", training: bytes = b"") -> bytes:
    """Encode a model of a graph and at most one function and training step."""
    parts = {7: graph, 25: functions, 20: training}
    return field(1, 10) + b"".join(field(number, part) for number, part in parts.items() if part)


def node(operator: str, attribute: bytes = b"", domain: str = "") -> bytes:
    """Encode a node with one attribute."""
    names = field(1, "x") + field(2, "y") + field(3, "a node") + field(4, operator)
    return names + field(5, field(1, "value") + attribute) + field(7, domain)


def tensor(*content: bytes) -> bytes:
    """Encode a tensor of three floats called weight, whose data are left to `content`."""
    return field(1, 3) + field(2, 1) + field(8, "weight") + b"".join(content)


def entry(key: str, value: str) -> bytes:
    """Encode a field of a tensor: one entry of its external data."""
    return field(13, field(1, key) + field(2, value))


def external(location: str, **more: str) -> bytes:
    """Encode a tensor whose data lie in another file."""
    entries = {"location": location, **more}
    return tensor(*(entry(*each) for each in entries.items()), field(14, 1))


INLINE = tensor(field(9, bytes(12)))
"""A tensor that holds its data itself."""


def everywhere(hidden: bytes) -> dict[str, bytes]:
    """Return a model for every place that a tensor can be in, by the name of the place."""
    sparse = field(1, hidden) + field(2, INLINE)
    branch = field(5, INLINE) + field(5, hidden)
    constant = node("Constant", field(5, hidden))
    loop = node("Loop", field(6, branch))
    return {
        "initializer": model(branch),
        "sparse initializer": model(field(15, sparse)),
        "indices of a sparse initializer": model(field(15, field(1, INLINE) + field(2, hidden))),
        "attribute": model(field(1, node("Relu")) + field(1, constant)),
        "attribute of tensors": model(
            field(1, node("Some", field(10, INLINE) + field(10, hidden)))
        ),
        "sparse attribute": model(field(1, node("Constant", field(22, sparse)))),
        "attribute of sparse tensors": model(field(1, node("Some", field(23, sparse)))),
        "subgraph": model(field(1, node("If", field(6, branch)))),
        "subgraphs": model(field(1, node("Some", field(11, field(5, INLINE)) + field(11, branch)))),
        "loop in a loop": model(field(1, node("Loop", field(6, field(1, loop))))),
        "function": model(functions=field(1, "f") + field(7, constant)),
        "loop in a function": model(functions=field(1, "f") + field(7, loop)),
        "default of a function's attribute": model(
            functions=field(1, "f") + field(11, field(5, hidden))
        ),
        "training initialization": model(training=field(1, branch)),
        "training algorithm": model(training=field(2, branch)),
    }
