"""What goes wrong with a request, as HTTP status and one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samrefine_runtime.errors import (
    BackendError,
    BundleError,
    InferenceError,
    InputError,
    SamrefineError,
    SettingsError,
    message_of,
)


class RequestError(SamrefineError):
    """A request is refused, or cannot be answered now."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def invalid(message: str) -> RequestError:
    """Return the error about a request that says what cannot be meant."""
    return RequestError(400, "INVALID_REQUEST", message)


_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (InferenceError, 500, "INFERENCE_FAILED"),
    (InputError, 400, "INVALID_INPUT"),
    (SettingsError, 400, "INVALID_REQUEST"),
    (BundleError, 501, "NOT_IN_THIS_BUNDLE"),
    (BackendError, 500, "BACKEND_FAILED"),
    (MemoryError, 503, "OUT_OF_MEMORY"),
)
"""Status and code of errors, the first that fits."""


def request_error(error: Exception) -> RequestError:
    """Return what a request is answered on an error; one that is not expected says nothing."""
    if isinstance(error, RequestError):
        return error
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return RequestError(status, code, message_of(error))
    return RequestError(500, "INTERNAL_ERROR", "the request failed; the server's log says why")


def body_of(error: RequestError) -> dict[str, Any]:
    """Return the JSON of an error."""
    return {"error": {"code": error.code, "message": message_of(error)}}
