"""Checks JSON values against a JSON Schema, in the part of that language that ours is written in.

The schema is what other programs check manifests with, so ranges are stated there and nowhere else.
The jsonschema package does the same, but the runtime has four dependencies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from samrefine_runtime.checks import described
from samrefine_runtime.errors import BundleError, printable

Schema = Mapping[str, Any]


class _Rule(NamedTuple):
    """What a keyword demands of values of one kind; values of other kinds pass."""

    kinds: type | tuple[type, ...]
    holds: Callable[[Any, Any], bool]
    """Called with the value and the keyword's own value."""
    expected: str
    """Phrase for messages, formatted with the keyword's own value."""


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    # bool is a subclass of int in Python alone; 2.0 is an integer in JSON Schema
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: _TYPES["number"](value) and value % 1 == 0,
}


def _has_type(value: Any, names: str | list[str]) -> bool:
    return any(_TYPES[name](value) for name in ([names] if isinstance(names, str) else names))


def _matches(text: str, pattern: str) -> bool:
    # In the schema's regular expressions $ is the end alone, in Python's also before a newline
    return re.search(pattern.replace("$", r"\Z"), text) is not None


_RULES: Mapping[str, _Rule] = {
    "type": _Rule(object, _has_type, "{}"),
    "const": _Rule(object, lambda value, only: value == only and value is not True, "{}"),
    "minimum": _Rule((int, float), lambda value, least: value >= least, "at least {}"),
    "maximum": _Rule((int, float), lambda value, most: value <= most, "at most {}"),
    "maxLength": _Rule(str, lambda text, most: len(text) <= most, "at most {} characters"),
    "pattern": _Rule(str, _matches, "text that matches {}"),
    "minItems": _Rule(list, lambda items, least: len(items) >= least, "at least {} items"),
    "maxItems": _Rule(list, lambda items, most: len(items) <= most, "at most {} items"),
    # Compared as they look: items of any type have a repr, but not all a hash
    "uniqueItems": _Rule(
        list, lambda items, _: len(set(map(repr, items))) == len(items), "no item twice"
    ),
    "required": _Rule(dict, lambda entries, names: entries.keys() >= set(names), "entries {}"),
    "maxProperties": _Rule(dict, lambda entries, most: len(entries) <= most, "at most {} entries"),
}

KEYWORDS = frozenset(_RULES) | {"properties", "additionalProperties", "propertyNames", "items"}
"""What is understood of JSON Schema, beside `$ref` to `$defs`."""


def check(value: Any, schema: Schema, place: str = "", root: Schema | None = None) -> None:
    """Check a value and all that it holds.

    Args:
        value: as `json.loads` returns it.
        schema: that the value must follow.
        place: how messages call the value, such as "sam.mean[0]".
        root: the schema with the `$defs` that are referred to; None for `schema` itself.

    Raises:
        BundleError: the first value that does not follow it, with expected and actual.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    # The value itself, before what it holds
    for keyword, rule in _RULES.items():
        if keyword in schema and isinstance(value, rule.kinds):
            own = schema[keyword]
            if not rule.holds(value, own):
                expected = rule.expected.format(printable(own))
                raise BundleError(
                    f"{printable(place) or 'it'} is {described(value)}, expected {expected}"
                )
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], f"{place}[{index}]", root)
    if isinstance(value, dict):
        _check_entries(value, schema, place, root)


def _check_entries(entries: Mapping[str, Any], schema: Schema, place: str, root: Schema) -> None:
    """Check the names and values of an object. Raises BundleError."""
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, value in entries.items():
        check(name, schema.get("propertyNames", {}), f"a name in {place or 'it'}", root)
        # What the schema does not know is for later versions
        own = known.get(name, others)
        if own is not None:
            check(value, own, f"{place}.{name}" if place else name, root)
