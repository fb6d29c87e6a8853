"""Reading and writing JSON files, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.errors import InputError


def read_json(path: str | Path, error_type: type[InputError]) -> Any:
    """Read the value of a UTF-8 JSON file; NaN and Infinity, which are not JSON, are refused.

    Raises:
        InputError: of type `error_type`, if the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        raise error_type(f"{path}: no such file") from None
    except OSError as error:
        raise error_type(f"{path}: cannot be read ({error.strerror})") from error
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
