"""A file that is on its way: what came so far outlives the process that fetched it."""

from __future__ import annotations

import json
from pathlib import Path

from samrefine_runtime.atomic import output_errors, write_bytes


class Partial:
    """What has come of a file, beside its place, and which version of the file it is of.

    `<file>.part` holds the bytes, `<file>.part.json` the URL and the validator (ETag or date) that
    the server gave with the first of them.
    """

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._origin = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str | None:
        """Return the validator of what has come from a URL: "" for none, None if nothing has."""
        try:
            origin = json.loads(self._origin.read_bytes())
        except (OSError, ValueError):  # as if nothing had come: it is fetched anew
            return None
        if not self.size or not isinstance(origin, dict) or origin.get("url") != url:
            return None
        return str(origin.get("validator", ""))

    def begin(self, url: str, validator: str) -> None:
        """Start anew with a version of the file. Raises OutputError."""
        with output_errors(self.path):
            # Emptied first: bytes of another version must never lie beside this one's validator
            self.path.write_bytes(b"")
        write_bytes(self._origin, json.dumps({"url": url, "validator": validator}).encode())

    def append(self, piece: bytes) -> None:
        """Add bytes at the end. Raises OutputError."""
        # Unbuffered, so that nothing is lost when the process is killed
        with output_errors(self.path), self.path.open("ab", buffering=0) as file:
            # A disk that is nearly full takes a part of it
            while piece:
                piece = piece[file.write(piece) :]

    def discard(self) -> None:
        """Remove what has come."""
        self.path.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)
