"""Which other files an .onnx file makes its reader open: its external data, wherever it hides.

Engines resolve these names themselves, and older ones follow them to anywhere on the machine. So
they are read here first. Field numbers are those of onnx.proto, which never change:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from samrefine_runtime.bundle.limits import HINT
from samrefine_runtime.bundle.wire import LENGTH, VARINT, Buffer, WireError, fields, varint

_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {1: "name", 7: "node", 10: "domain", 11: "attribute"},
    "node": {4: "name", 5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry", 14: "is_external"},
    "entry": {1: "name", 2: "value"},
}
"""Of each message, the fields that can lead to a file name, and what they hold."""

_TEXTS = frozenset({"name", "domain", "value"})
"""What is no message and no number."""

_REPEATED: Mapping[str, frozenset[int]] = {
    "model": frozenset({20, 25}),
    "graph": frozenset({1, 5, 15}),
    "function": frozenset({7, 11}),
    "node": frozenset({5}),
    "attribute": frozenset({10, 11, 23}),
    "tensor": frozenset({13}),
}
"""Fields that a message may have many times. Of two others some readers take the last and some
merge both, so that nobody could say what will be loaded; no writer makes two."""

_ENTRIES = frozenset({"location", "offset", "length", "checksum"})
"""What ONNX says of external data; engines have keys of their own, with other meanings."""

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains whose operators only compute. Others come from libraries and may do anything, but for
the functions that a model itself defines."""

_UNSAFE_OPERATORS = frozenset({"EPContext", "Snpe", "PyOp", "PythonOp", "PythonOpGrad"})
"""Operators of ONNX Runtime that do more: run a compiled program, which EPContext may read from any
file that its attribute names, or call Python."""

_LONGEST_TEXT = 1024
"""Bytes of a text that is looked at. Names of operators are short, file names have 255 at most."""


class ExternalData(NamedTuple):
    """Where a tensor lies that is not in the .onnx file itself."""

    location: str
    """File name, relative to the folder of the .onnx file."""
    offset: int
    """Position of the first byte."""
    length: int
    """Number of bytes; 0 where only the tensor's shape tells."""


class _Operator(NamedTuple):
    domain: str
    name: str


def external_data(data: Buffer, most_fields: int) -> set[ExternalData]:
    """Find all external data that a serialised ONNX model refers to.

    Args:
        data: content of an .onnx file.
        most_fields: fields of messages to look at before giving up.

    Raises:
        WireError: the model is damaged, is one that readers understand differently, has more
            fields, or uses an operator that may do more than compute.
    """
    walk = _Walk(data, most_fields)
    walk.visit_all()
    for operator in walk.used:
        _check_operator(operator, walk.defined)
    return walk.found


class _Walk:
    """A walk over all messages of a model that can lead to a tensor."""

    def __init__(self, data: Buffer, most_fields: int):
        self.data, self.most_fields, self.fields_left = data, most_fields, most_fields
        self.found: set[ExternalData] = set()
        self.used: set[_Operator] = set()
        self.defined: set[_Operator] = set()

    def visit_all(self) -> None:
        # A list of what is to be visited instead of recursion: graphs nest as deep as they like
        pending = [("model", 0, len(self.data))]
        while pending:
            kind, start, end = pending.pop()
            if kind == "tensor":
                self._visit_tensor(start, end)
                continue
            texts: dict[str, str] = {}
            for content, first, stop in self._known_fields(kind, start, end):
                if content in _TEXTS:
                    texts[content] = self._text(first, stop)
                else:
                    pending.append((content, first, stop))
            operator = _Operator(texts.get("domain", ""), texts.get("name", ""))
            if kind == "node":
                self.used.add(operator)
            elif kind == "function":
                self.defined.add(operator)

    def _visit_tensor(self, start: int, end: int) -> None:
        entries: dict[str, str] = {}
        is_external = False
        for content, first, stop in self._known_fields("tensor", start, end):
            if content == "is_external":
                is_external = varint(self.data, first, stop)[0] != 0
                continue
            entry = {
                what: self._text(*at) for what, *at in self._known_fields("entry", first, stop)
            }
            name = entry.get("name", "")
            if name not in _ENTRIES or name in entries:
                raise WireError(f"external data of a tensor says {name!r}, unknown or said before")
            entries[name] = entry.get("value", "")
        # Some readers take what a tensor says for what it means: entries count by themselves
        if entries or is_external:
            self.found.add(_external_data_of(entries))

    def _known_fields(self, kind: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Yield what the fields of a message hold that `_MESSAGES` has, and where."""
        known, repeated, seen = _MESSAGES[kind], _REPEATED.get(kind, frozenset()), set()
        for number, wire_type, first, stop in fields(self.data, start, end):
            self.fields_left -= 1
            if self.fields_left < 0:
                raise WireError(f"it has over {self.most_fields} fields; {HINT}")
            if number not in known:
                continue
            content = known[number]
            if wire_type != (VARINT if content == "is_external" else LENGTH):
                raise WireError(f"wire type {wire_type} of field {number} of a {kind}")
            if number in seen and number not in repeated:
                raise WireError(f"field {number} of a {kind} twice")
            seen.add(number)
            yield content, first, stop

    def _text(self, start: int, end: int) -> str:
        if end - start > _LONGEST_TEXT:
            raise WireError(f"a name of {end - start} bytes, expected at most {_LONGEST_TEXT}")
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            raise WireError(f"a name at byte {start} that is no UTF-8") from None


def _external_data_of(entries: Mapping[str, str]) -> ExternalData:
    """Read the entries of one tensor. Raises WireError."""
    if not entries.get("location"):
        raise WireError("a tensor with external data of no location")
    return ExternalData(
        entries["location"], *(_position(entries.get(name, "0")) for name in ("offset", "length"))
    )


def _position(text: str) -> int:
    """Read a number of bytes. Raises WireError."""
    # Engines differ in what else they take for a number: signs, spaces, hexadecimals
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise WireError(f"external data at {text!r}, expected a number of bytes")
    return int(text)


def _check_operator(operator: _Operator, defined: set[_Operator]) -> None:
    """Raise WireError if an operator may do more than compute."""
    domain, name = operator
    if name in _UNSAFE_OPERATORS:
        raise WireError(f"operator {name!r} does more than compute")
    if domain not in _STANDARD_DOMAINS and operator not in defined:
        raise WireError(f"operator {name!r} is of domain {domain!r}, which may do anything")
