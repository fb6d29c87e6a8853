"""A file of JSON objects, one per line, to which a run appends as it goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from samrefine_runtime.atomic import output_errors
from samrefine_runtime.errors import StorageError


class Journal:
    """An append-only file that survives being killed at any moment.

    A line counts once its newline is written; what is left of a line that was being written is
    dropped when the file is opened again.
    """

    def __init__(self, path: Path):
        """Open or create the file. Raises OutputError."""
        self.path = path
        self._lock = threading.Lock()
        with output_errors(path):
            # Without a buffer: what a full disk refuses must not be tried again when it is closed
            self._file = path.open("a+b", buffering=0)
            self._drop_torn_line()

    def __iter__(self) -> Iterator[Any]:
        """Read the objects from the first on; lines that are not JSON are passed over."""
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    continue

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an object and wait until the disk has it; safe to call from several threads.

        Raises:
            StorageError: it cannot be written, whatever the reason: without a journal no run
                can go on.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            with self._lock:
                while line:
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _drop_torn_line(self) -> None:
        """Cut the file after its last newline."""
        end = self._file.seek(0, os.SEEK_END)
        # Lines are short, but nothing bounds them: look back piece by piece
        keep, piece = end, 1 << 16
        while keep > 0:
            start = max(0, keep - piece)
            self._file.seek(start)
            newline = self._file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            self._file.truncate(keep)
        self._file.seek(0, os.SEEK_END)
