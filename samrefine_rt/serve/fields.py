"""What a request gives, by name: the members of a JSON object, or the parts of a form."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from samrefine_rt.serve.errors import invalid
from samrefine_runtime.checks import described

Fields = Mapping[str, Any]

_MOST_FILES, _MOST_TEXTS = 4, 32
"""Parts of a form."""

_DATA_URI = "data:"


async def read_fields(request: Request) -> Fields:
    """Read the body of a request: JSON, or a form whose texts may be JSON. Raises RequestError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request)
    # A browser sends text/plain across sites without asking; a tool that has JSON says so
    if kind != "application/json":
        raise invalid(f"content type is {kind or 'none'}, expected application/json or a form")
    body = await request.body()
    fields = await anyio.to_thread.run_sync(_parsed, body)
    if not isinstance(fields, dict):
        raise invalid(f"the body is {described(fields)[:80]}, expected a JSON object")
    return fields


def _parsed(text: str | bytes) -> Any:
    """Parse JSON. Raises RequestError."""
    try:
        return json.loads(text)
    # RecursionError: lists in lists in lists
    except (ValueError, RecursionError):
        raise invalid("the body is not JSON") from None


async def _form(request: Request) -> Fields:
    try:
        async with request.form(max_files=_MOST_FILES, max_fields=_MOST_TEXTS) as form:
            return {
                name: await value.read() if isinstance(value, UploadFile) else _text(value)
                for name, value in form.items()
            }
    except HTTPException as error:
        raise invalid(f"the form cannot be read: {error.detail}") from None


def _text(value: str) -> Any:
    """Return the value of a form's text: JSON where it is JSON, else the text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def file_bytes(fields: Fields, name: str) -> bytes:
    """Return a file that was sent as a part of a form, in base64 or as a data URI.

    Raises RequestError.
    """
    value = fields.get(name)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise invalid(f"{name} is {described(value)[:80]}, expected a file in base64")
    return decode_base64(value, name)


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64, which may be a data URI. Raises RequestError that calls it `name`."""
    if text.startswith(_DATA_URI):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise invalid(f"{name} is a data URI of another kind, expected one in base64")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{name} is not base64") from None


def texts(fields: Fields, name: str) -> list[str] | None:
    """Return a list of texts, None where there is none. Raises RequestError."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise invalid(f"{name} is {described(value)[:80]}, expected a list of texts")
    return value


def numbers(value: Any, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Return an array of finite numbers of a shape, None any length. Raises RequestError."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        sides = " x ".join("K" if side is None else str(side) for side in shape)
        raise invalid(f"{name} is {described(value)[:80]}, expected {sides} finite numbers")
    return array
