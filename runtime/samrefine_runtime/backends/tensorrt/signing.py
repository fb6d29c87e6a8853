"""Marks by which a user's builds are known.

A plan is a program, and TensorRT runs what it says. A bundle comes from strangers and may bring
plans; only those are loaded that carry the mark of a secret of the user, who has built them here.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from samrefine_runtime.atomic import atomic_path

VARIABLE = "SAMREFINE_ENGINE_KEY"
"""Environment variable: file of the secret, for machines that share engines."""

_BYTES = 32


def make_secret() -> bytes:
    """Return the user's secret, made where there is none yet. Raises OutputError."""
    secret = read_secret()
    if secret is None:
        secret = secrets.token_bytes(_BYTES)
        with atomic_path(_path()) as temporary:
            # Nobody else may read it, from the first moment on
            temporary.touch(mode=0o600)
            temporary.write_bytes(secret)
    return secret


def read_secret() -> bytes | None:
    """Return the user's secret, None where there is none that can be read."""
    try:
        secret = _path().read_bytes()
    except (OSError, RuntimeError):  # not there, or no home folder
        return None
    return secret if len(secret) >= _BYTES else None


def mark(secret: bytes, content: bytes) -> str:
    """Return the mark of a content, in hex."""
    return hmac.digest(secret, content, "sha256").hex()


def is_marked(secret: bytes | None, content: bytes, found: object) -> bool:
    """Return whether a mark is that of a content."""
    # ASCII alone can be compared
    is_text = isinstance(found, str) and found.isascii()
    return secret is not None and is_text and hmac.compare_digest(mark(secret, content), str(found))


def _path() -> Path:
    own = os.environ.get(VARIABLE)
    config = os.environ.get("XDG_CONFIG_HOME")
    return Path(own) if own else Path(config or Path.home() / ".config") / "samrefine/engine.key"
