"""An output folder: what was written into it, what is done, and what may be written.

A hidden folder `.samrefine` in it holds the journal. Its lines are run records and, for each
image, an entry: what the image's outputs are made from and the fingerprints of these outputs. An
entry is written before its outputs are put in place; an image is done while all outputs that its
last entry promises are there as promised. A run that is killed between two outputs is so noticed,
and whatever is found in the way of an output is either ours, promised by some entry, or a file of
the user, which is never touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from samrefine_runtime.atomic import output_errors
from samrefine_runtime.errors import ImageError, OutputError, RunError, SamrefineError
from samrefine_runtime.runs.fingerprint import Fingerprint, Glance, glance
from samrefine_runtime.runs.journal import Journal
from samrefine_runtime.runs.record import RunRecord, describe

HIDDEN = ".samrefine"
"""Name of the folder that holds the journal."""

IMAGE, SPANNING = "image/", "all/"
"""How the keys of images, and those of files that span all images, begin in the journal."""

FORMAT, VERSION = "samrefine-run", 1
"""Name and version of the journal's format, stated by its run records."""


@dataclass(frozen=True)
class Task:
    """One image of a run, or one file that spans all images."""

    key: str
    """Identity in the journal: IMAGE and an image's id, or SPANNING and a name."""
    label: str
    """How messages call it, such as the path of the image."""
    kinds: tuple[str, ...]
    """Names of the outputs that are wanted, such as formats."""
    derived: tuple[str, ...] = ()
    """Those of them that can be made from the others, without the work on the image."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What the outputs are made from, by role: the image, its pseudo label, its masks."""
    given: Any = None
    """What else they are made from, as a JSON value: image-level labels."""

    def glances(self) -> dict[str, Glance | None]:
        """Return size and time of each file, None for one that cannot be looked at."""
        return {role: _glance(path) for role, path in self.files.items()}


@dataclass(frozen=True)
class Entry:
    """What the journal says of a task."""

    inputs: Mapping[str, Fingerprint]
    """What the outputs were made from, by role."""
    outputs: Mapping[str, Fingerprint]
    """What was written, by path relative to the output folder."""
    kinds: tuple[str, ...]
    given: Any
    label: str
    is_current: bool
    """Whether it is of the run record that is in force."""


@dataclass(frozen=True)
class Failure:
    """Why a task failed."""

    label: str
    kind: str
    """Name of the error's class."""
    message: str


class OutputFolder:
    """The output folder of one command, open for one run at a time."""

    def __init__(self, path: Path, record: RunRecord, version: str, *, overwrites: bool = False):
        """Open or create the folder; leave it with `close`, or use it as a context manager.

        Args:
            path: the folder.
            record: what decides the results of this run.
            version: of the package, for the journal.
            overwrites: whether what another run record made may be replaced, and what a user
                changed since it was written.

        Raises:
            RunError: another run is writing into the folder, or it holds what another command,
                bundle or settings made.
            OutputError: the folder cannot be made or written.
        """
        self.path, self.record, self.overwrites = path, record, overwrites
        self.changes = ""
        """What differs from the run record that was in force before; "" if nothing does."""
        self.entries: dict[str, Entry] = {}
        self.failures: dict[str, Failure] = {}
        # Everything ever promised, by path and by task: what may be replaced or removed
        self._promised: dict[str, list[Fingerprint]] = {}
        self._paths: dict[str, set[str]] = {}
        self._exit = ExitStack()
        with self._exit, output_errors(path):
            (path / HIDDEN).mkdir(parents=True, exist_ok=True)
            self._lock()
            # Whatever a killed run left
            shutil.rmtree(self._staging, ignore_errors=True)
            self._journal = Journal(path / HIDDEN / "journal.jsonl")
            self._exit.callback(self._journal.close)
            self._open_record(self._replay(), version)
            self._exit = self._exit.pop_all()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs write into the folder."""
        self._exit.close()

    def missing(self, task: Task) -> tuple[str, ...]:
        """Return the kinds of output that a task wants and that are not there.

        None is missing where all were made by this run record from what the task has now and are
        as they were written; some, where the rest can be derived; else all.
        """
        entry = self.entries.get(task.key)
        if entry is None or task.key in self.failures or not self._is_intact(entry, task):
            return task.kinds
        missing = tuple(kind for kind in task.kinds if kind not in entry.kinds)
        return missing if set(missing) <= set(task.derived) else task.kinds

    def done(self, prefix: str) -> dict[str, Entry]:
        """Return the entries of this run record that did not fail, by what follows the prefix."""
        return {
            key.removeprefix(prefix): entry
            for key, entry in self.entries.items()
            if key.startswith(prefix) and entry.is_current and key not in self.failures
        }

    def outdated(self, prefix: str) -> set[str]:
        """Return what follows the prefix in the keys of tasks that an earlier run record made."""
        return {
            key.removeprefix(prefix)
            for key, entry in self.entries.items()
            if key.startswith(prefix) and not entry.is_current
        }

    def digest(self, prefix: str, names: Iterable[str]) -> str:
        """Compute the hex sha256 of the outputs of some tasks, in their order."""
        digest = hashlib.sha256()
        for name in names:
            outputs = sorted(self.entries[prefix + name].outputs.items())
            contents = [(at, fingerprint.sha256) for at, fingerprint in outputs]
            digest.update(json.dumps([name, contents]).encode())
        return digest.hexdigest()

    @contextmanager
    def stage(
        self, task: Task, seen: Mapping[str, Glance | None], *, adds: bool = False
    ) -> Iterator[Path]:
        """Yield an empty folder for the outputs of a task, laid out as the output folder is.

        When the block ends without an error, they are put in place together, and what the task
        had before and has no more is removed.

        Args:
            task: an image or a file that spans all images.
            seen: the task's `glances` from before its files were read.
            adds: whether the outputs that the task has stay beside the new ones.

        Raises:
            ImageError: a file of the task has changed since.
            OutputError: an output cannot be written, or a file that is not ours is in its way.
            StorageError: nothing can be written any more.
        """
        with output_errors(self.path):
            self._staging.mkdir(exist_ok=True)
        try:
            with _named(self._staging, self.path), output_errors(self.path):
                yield self._staging
                self._commit(task, seen, self.entries[task.key].outputs if adds else {})
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def span(self, name: str, given: Any, write: Callable[[Path], object]) -> None:
        """Write files that span all images, unless they are there, made of the same.

        Args:
            name: of the files in the journal.
            given: what they are made of, as a JSON value.
            write: writes them into a folder that is laid out as the output folder.

        Raises:
            OutputError: a file cannot be written, or one that is not ours is in its way.
        """
        task = Task(SPANNING + name, name, (name,), given=given)
        if self.missing(task):
            with self.stage(task, {}) as staging:
                write(staging)

    def fail(self, task: Task, error: BaseException, message: str) -> None:
        """Note that a task failed. Raises StorageError.

        Outputs that it had are removed if they are known to be of another image or run; they stay
        where a file merely cannot be read now.
        """
        entry = self.entries.get(task.key)
        is_readable = None not in task.glances().values()
        if entry is not None and is_readable and not self._is_current(entry, task):
            self._remove(self._paths[task.key])
        failure = Failure(task.label, type(error).__name__, message)
        self._journal.append({"failed": task.key, **vars(failure)})
        self.failures[task.key] = failure

    def sweep(self) -> None:
        """Remove files that span the images of a run record which is no longer in force."""
        for key, entry in self.entries.items():
            if key.startswith(SPANNING) and not entry.is_current:
                self._remove(entry.outputs)

    # What is in the folder

    @property
    def _staging(self) -> Path:
        return self.path / HIDDEN / "staging"

    def _lock(self) -> None:
        """Take the folder for this run. Raises RunError if another one has it."""
        file = self._exit.enter_context((self.path / HIDDEN / "lock").open("a"))
        try:
            # The system lets go of it whatever ends the process
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{self.path}: another run is writing into this folder") from None

    def _replay(self) -> RunRecord | None:
        """Read the journal from the start; return the run record that is in force, if any."""
        record = None
        for line in self._journal:
            if not isinstance(line, dict):
                continue
            if "run" in line:
                if line.get("format") != FORMAT or line.get("version") != VERSION:
                    raise RunError(
                        f"{self._journal.path} is of format {line.get('format')!r} version "
                        f"{line.get('version')!r}, this release continues {FORMAT} {VERSION}"
                    )
                record = RunRecord.of_json(line["run"])
                self.entries = {key: _outdated(entry) for key, entry in self.entries.items()}
                self.failures = {}
            elif "failed" in line:
                self.failures[str(line["failed"])] = _read_failure(line)
            elif "task" in line:
                self._read_entry(line)
        return record

    def _read_entry(self, line: Mapping[str, Any]) -> None:
        """Take in a line of the journal; one that is damaged promises nothing."""
        try:
            entry = Entry(
                inputs={role: Fingerprint.of_json(v) for role, v in line["inputs"].items()},
                outputs={_inside(at): Fingerprint.of_json(v) for at, v in line["outputs"].items()},
                kinds=tuple(line["kinds"]),
                given=line["given"],
                label=str(line["label"]),
                is_current=True,
            )
        except (LookupError, TypeError, ValueError, AttributeError):
            return
        self._take(str(line["task"]), entry)

    def _take(self, key: str, entry: Entry) -> None:
        self.entries[key] = entry
        self.failures.pop(key, None)
        self._paths.setdefault(key, set()).update(entry.outputs)
        for at, fingerprint in entry.outputs.items():
            self._promised.setdefault(at, []).append(fingerprint)

    def _open_record(self, old: RunRecord | None, version: str) -> None:
        """Compare this run with the one before; note it where it is another. Raises RunError."""
        self.changes = "" if old is None else describe(old.changes_to(self.record))
        if old is not None and not self.changes:
            return
        if old is not None and old.command != self.record.command:
            raise RunError(
                f"{self.path} holds what `samrefine {old.command}` wrote: choose another folder"
            )
        if self.changes and not self.overwrites:
            raise RunError(
                f"{self.path} holds results of another run ({self.changes}): go on with "
                "--overwrite, or choose another folder"
            )
        header = {"format": FORMAT, "version": VERSION, "samrefine": version}
        self._journal.append({**header, "run": self.record.to_json()})
        self.entries = {key: _outdated(entry) for key, entry in self.entries.items()}
        self.failures = {}

    def _is_intact(self, entry: Entry, task: Task) -> bool:
        """Return whether an entry is current and its outputs are as they were written."""
        return self._is_current(entry, task) and all(
            fingerprint.fits(self.path / at) for at, fingerprint in entry.outputs.items()
        )

    def _is_current(self, entry: Entry, task: Task) -> bool:
        """Return whether an entry was made by this run record and from what the task has now."""
        return (
            entry.is_current
            and entry.given == task.given
            and entry.inputs.keys() == task.files.keys()
            and all(entry.inputs[role].fits(path) for role, path in task.files.items())
        )

    # Putting outputs in place

    def _commit(
        self, task: Task, seen: Mapping[str, Glance | None], kept: Mapping[str, Fingerprint]
    ) -> None:
        """Promise the staged files in the journal, then move them into place."""
        files = sorted(path for path in self._staging.rglob("*") if path.is_file())
        staged = {path.relative_to(self._staging).as_posix(): path for path in files}
        if not staged and task.key not in self.entries:
            return
        for at in staged:
            self._check_free(at)
        written = {at: Fingerprint.of(path) for at, path in staged.items()}
        entry = Entry(
            inputs=_unchanged(task, seen),
            outputs={**kept, **written},
            kinds=task.kinds,
            given=task.given,
            label=task.label,
            is_current=True,
        )
        self._journal.append(_to_json(task.key, entry))
        self._take(task.key, entry)
        for at, path in staged.items():
            (self.path / at).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self.path / at)
        self._remove(self._paths[task.key] - entry.outputs.keys())

    def _check_free(self, at: str) -> None:
        """Raise OutputError if what is at a path was not written by a run into this folder."""
        path = self.path / at
        if not (path.exists() or path.is_symlink()) or self._is_ours(at):
            return
        if at not in self._promised or path.is_dir():
            raise OutputError(
                f"{path} is in the way and was not written by this package: move it away, or "
                "choose another folder"
            )
        if not self.overwrites:
            raise OutputError(
                f"{path} was changed after it was written: move it away, or use --overwrite"
            )
        self._keep(path, at)

    def _is_ours(self, at: str) -> bool:
        """Return whether a file is as some entry promised it, or empty, which loses nothing."""
        path, promised = self.path / at, self._promised.get(at, [])
        if path.is_symlink() or not path.is_file():
            return False
        is_empty = bool(promised) and path.stat().st_size == 0
        return is_empty or any(each.fits(path) for each in reversed(promised))

    def _keep(self, path: Path, at: str) -> None:
        """Move a file that the user has changed out of the way, under a name that is free."""
        kept = self.path / HIDDEN / "kept" / at
        kept.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while (free := kept.with_name(f"{kept.stem}.{number}{kept.suffix}")).exists():
            number += 1
        path.rename(free)

    def _remove(self, paths: Sequence[str] | set[str] | Mapping[str, Any]) -> None:
        """Remove files that are ours, and the folders that become empty."""
        for at in sorted(paths):
            if not self._is_ours(at):
                continue
            path = self.path / at
            path.unlink()
            for folder in list(path.parents)[: len(PurePosixPath(at).parents) - 1]:
                if any(folder.iterdir()):
                    break
                folder.rmdir()


def _glance(path: Path) -> Glance | None:
    try:
        return glance(path)
    except OSError:
        return None


def _unchanged(task: Task, seen: Mapping[str, Glance | None]) -> dict[str, Fingerprint]:
    """Fingerprint the files of a task. Raises ImageError if one changed since it was seen."""
    found = {}
    for role, path in task.files.items():
        try:
            found[role] = Fingerprint.of(path)
        except OSError as error:
            raise ImageError(f"{path}: cannot be read any more ({error.strerror})") from error
        if (found[role].size, found[role].mtime_ns) != seen[role]:
            raise ImageError(f"{path}: changed while it was being worked on; run the command again")
    return found


@contextmanager
def _named(staging: Path, folder: Path) -> Iterator[None]:
    """Let errors name the place of an output in the folder, not where it is staged."""
    try:
        yield
    except SamrefineError as error:
        raise type(error)(str(error).replace(str(staging), str(folder))) from error


def _inside(at: Any) -> str:
    """Return a path of the journal if it stays inside the folder. Raises ValueError."""
    path = PurePosixPath(at)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{at!r} leads out of the folder")
    return str(path)


def _outdated(entry: Entry) -> Entry:
    return Entry(**{**vars(entry), "is_current": False})


def _to_json(key: str, entry: Entry) -> dict[str, Any]:
    return {
        "task": key,
        "label": entry.label,
        "kinds": list(entry.kinds),
        "given": entry.given,
        "inputs": {role: each.to_json() for role, each in entry.inputs.items()},
        "outputs": {at: each.to_json() for at, each in entry.outputs.items()},
    }


def _read_failure(line: Mapping[str, Any]) -> Failure:
    return Failure(*(str(line.get(name, "")) for name in ("label", "kind", "message")))
