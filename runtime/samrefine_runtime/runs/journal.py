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

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Read the objects from the first on, each with its place; None for a damaged line."""
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError):
                    value = None
                yield place, value
                place += len(line)

    def read(self, place: int) -> Any:
        """Read the object at a place that `append` or the iteration gave."""
        with self.path.open("rb") as file:
            file.seek(place)
            return json.loads(file.readline())

    def append(self, entry: Mapping[str, Any]) -> int:
        """Add an object and wait until the disk has it; safe to call from several threads.

        Returns:
            Its place in the file.

        Raises:
            StorageError: it cannot be written, whatever the reason: without a journal no run
                can go on.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            with self._lock:
                place = self._file.seek(0, os.SEEK_END)
                while line:
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written ({error.strerror})") from error
        return place

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
