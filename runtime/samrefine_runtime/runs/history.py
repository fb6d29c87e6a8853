"""What was done in an output folder, as its journal tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from samrefine_runtime.errors import RunError
from samrefine_runtime.runs.fingerprint import Fingerprint
from samrefine_runtime.runs.journal import Journal
from samrefine_runtime.runs.record import RunRecord

FORMAT, VERSION = "samrefine-run", 1
"""Name and version of the journal's format, stated by its run records."""


@dataclass(frozen=True)
class Entry:
    """What a run promised to write for a task, and from what."""

    inputs: Mapping[str, Fingerprint]
    """What the outputs were made from, by role."""
    outputs: Mapping[str, Fingerprint]
    """What was written, by path relative to the output folder."""
    kinds: tuple[str, ...]
    """Names of the outputs."""
    given: Any
    """What else they were made from."""
    label: str
    """How messages call the task."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON holds it."""
        return {
            "label": self.label,
            "kinds": list(self.kinds),
            "given": self.given,
            "inputs": {role: each.to_json() for role, each in self.inputs.items()},
            "outputs": {at: each.to_json() for at, each in self.outputs.items()},
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Entry | None:
        """Read the value of `to_json`; one that is damaged promises nothing, and is None."""
        try:
            return cls(
                inputs={role: Fingerprint.of_json(v) for role, v in value["inputs"].items()},
                outputs={_inside(at): Fingerprint.of_json(v) for at, v in value["outputs"].items()},
                kinds=tuple(value["kinds"]),
                given=value["given"],
                label=str(value["label"]),
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            return None


@dataclass(frozen=True)
class Failure:
    """Why a task failed."""

    label: str
    """How messages call the task."""
    kind: str
    """Name of the error's class."""
    message: str
    """What the error says."""


class History:
    """The journal of an output folder, by task.

    Entries stay in the file and are read when they are asked for; of a task only the places of its
    lines are kept. So the memory of a run does not grow with the images it has done.
    """

    def __init__(self, path: Path):
        """Open or create the journal and read it once.

        Raises:
            RunError: it is of another format or of a later version.
            OutputError: it cannot be opened.
        """
        self._journal = Journal(path)
        self.record: RunRecord | None = None
        """The run record in force: the last one, None in a new folder."""
        self.failures: dict[str, Failure] = {}
        """Tasks that failed since under that record, by key."""
        # Places of a task's lines in the file, the oldest first, and of the record in force
        self._lines: dict[str, tuple[int, ...]] = {}
        self._record_line = 0
        try:
            for line, value in self._journal:
                if isinstance(value, dict):
                    self._take(line, value)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def keys(self, prefix: str) -> Iterator[str]:
        """Iterate over the keys of tasks that begin so."""
        return (key for key in self._lines if key.startswith(prefix))

    def latest(self, key: str) -> Entry | None:
        """Return the last entry of a task, None if there is none."""
        lines = self._lines.get(key)
        return None if lines is None else Entry.of_json(self._journal.read(lines[-1]))

    def is_current(self, key: str) -> bool:
        """Return whether the last entry of a task was made under the run record in force."""
        return key in self._lines and self._lines[key][-1] > self._record_line

    def promised(self, key: str) -> dict[str, list[Fingerprint]]:
        """Return everything that a task ever had, by path, the newest first.

        What lies at such a path and is as promised was written by a run, also by one that was
        killed before it had put all outputs of the task in place.
        """
        found: dict[str, list[Fingerprint]] = {}
        for line in reversed(self._lines.get(key, ())):
            entry = Entry.of_json(self._journal.read(line))
            for at, fingerprint in {} if entry is None else entry.outputs.items():
                found.setdefault(at, []).append(fingerprint)
        return found

    def begin(self, record: RunRecord, version: str) -> None:
        """Put a run record in force. Raises StorageError."""
        header = {"format": FORMAT, "version": VERSION, "samrefine": version}
        self._append({**header, "run": record.to_json()})

    def add(self, key: str, entry: Entry) -> None:
        """Add an entry of a task, which so has not failed. Raises StorageError."""
        self._append({"task": key, **entry.to_json()})

    def fail(self, key: str, failure: Failure) -> None:
        """Note that a task failed. Raises StorageError."""
        self._append({"failed": key, **vars(failure)})

    def _append(self, value: Mapping[str, Any]) -> None:
        self._take(self._journal.append(value), value)

    def _take(self, line: int, value: Mapping[str, Any]) -> None:
        """Take in the line of the journal that begins at a place in the file."""
        if "run" in value:
            if value.get("format") != FORMAT or value.get("version") != VERSION:
                raise RunError(
                    f"{self._journal.path} is of format {value.get('format')!r} version "
                    f"{value.get('version')!r}, this release continues {FORMAT} {VERSION}"
                )
            self.record, self._record_line = RunRecord.of_json(value["run"]), line
            self.failures = {}
        elif "failed" in value:
            texts = (str(value.get(name, "")) for name in ("label", "kind", "message"))
            self.failures[str(value["failed"])] = Failure(*texts)
        elif "task" in value and Entry.of_json(value) is not None:
            key = str(value["task"])
            self._lines[key] = (*self._lines.get(key, ()), line)
            self.failures.pop(key, None)


def _inside(at: Any) -> str:
    """Return a path of the journal if it stays inside the folder. Raises ValueError."""
    path = PurePosixPath(at)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{at!r} leads out of the folder")
    return str(path)
