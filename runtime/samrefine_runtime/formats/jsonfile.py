"""Reading and writing JSON files, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from reprlib import repr as short
from typing import Any, NoReturn

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.errors import InputError
from samrefine_runtime.inputs import read_bytes


def read_json(path: str | Path, error_type: type[InputError]) -> Any:
    """Read the value of a UTF-8 JSON file of at most `inputs.MAX_MEGABYTES`.

    NaN and Infinity, which are not JSON, are refused, and so is an object with the same key twice,
    of which any value may be meant.

    Raises:
        InputError: of type `error_type`, if the file is missing, unreadable, too large or not JSON.
    """
    content = read_bytes(path, error_type)
    try:
        return json.loads(content, parse_constant=_refuse, object_pairs_hook=_object)
    # RecursionError: brackets nested deeper than the interpreter follows
    except (ValueError, RecursionError) as error:
        raise error_type(f"{path}: not JSON ({error})") from error


def write_json(path: str | Path, value: Any, *, indent: int | None = None) -> None:
    """Write a value as one ASCII JSON file with a final newline. Raises OutputError."""
    text = json.dumps(value, allow_nan=False, indent=indent)
    write_bytes(path, text.encode() + b"\n")


def _refuse(constant: str) -> NoReturn:
    """Raise ValueError; the parser calls this at NaN, Infinity and -Infinity."""
    raise ValueError(f"{constant} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object. Raises ValueError if it has a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{short(twice)} occurs twice in an object")
    return found
