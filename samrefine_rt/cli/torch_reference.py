"""The exporter's torch side, for commands that compare with it."""

from __future__ import annotations

import importlib
from typing import Any

from samrefine_runtime.errors import BackendError


def torch_reference() -> Any:
    """Import the module that runs segment-anything. Raises BackendError without torch."""
    try:
        return importlib.import_module("samrefine_export.sam.torch_backend")
    except ImportError as error:
        raise BackendError(
            f"comparing with torch needs {error.name or error}: pip install 'samrefine-rt[export]'"
        ) from error
