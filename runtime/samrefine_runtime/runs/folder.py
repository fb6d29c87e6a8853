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
from pathlib import Path, PurePosixPath
from typing import Any

from samrefine_runtime.atomic import output_errors
from samrefine_runtime.errors import ImageError, OutputError, RunError, SamrefineError
from samrefine_runtime.listing import RESULTS
from samrefine_runtime.runs.fingerprint import Fingerprint
from samrefine_runtime.runs.history import Entry, Failure, History
from samrefine_runtime.runs.record import RunRecord, describe
from samrefine_runtime.runs.task import SPANNING, Glances, Task

HIDDEN = RESULTS
"""Name of the folder that holds the journal."""

Promised = Mapping[str, Sequence[Fingerprint]]
"""What a task ever had, by path relative to the output folder."""


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
        self._exit = ExitStack()
        with self._exit, output_errors(path):
            (path / HIDDEN).mkdir(parents=True, exist_ok=True)
            self._lock()
            # Whatever a killed run left
            shutil.rmtree(self._staging, ignore_errors=True)
            self._history = History(path / HIDDEN / "journal.jsonl")
            self._exit.callback(self._history.close)
            self._begin(version)
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
        entry = self._history.latest(task.key)
        if entry is None or task.key in self.failures or not self._is_intact(entry, task):
            return task.kinds
        missing = tuple(kind for kind in task.kinds if kind not in entry.kinds)
        return missing if set(missing) <= set(task.derived) else task.kinds

    @property
    def failures(self) -> Mapping[str, Failure]:
        """Why tasks failed, by key, under the run record in force."""
        return self._history.failures

    def done(self, prefix: str) -> list[str]:
        """Return the keys that begin so, of tasks of this run record that did not fail."""
        keys = self._history.keys(prefix)
        return [k for k in keys if self._history.is_current(k) and k not in self.failures]

    def outdated(self, prefix: str) -> list[str]:
        """Return the keys that begin so, of tasks that only an earlier run record made."""
        keys = self._history.keys(prefix)
        return [key for key in keys if not self._history.is_current(key)]

    def label(self, key: str) -> str:
        """Return how messages called a task that was done."""
        entry = self._history.latest(key)
        return "" if entry is None else entry.label

    def digest(self, keys: Iterable[str]) -> str:
        """Compute the hex sha256 of the outputs of some tasks, in their order."""
        digest = hashlib.sha256()
        for key, entry in ((key, self._history.latest(key)) for key in keys):
            outputs = {} if entry is None else entry.outputs
            contents = [(at, fingerprint.sha256) for at, fingerprint in sorted(outputs.items())]
            digest.update(json.dumps([key, contents]).encode())
        return digest.hexdigest()

    @contextmanager
    def stage(self, task: Task, seen: Glances, *, adds: bool = False) -> Iterator[Path]:
        """Yield an empty folder for the outputs of a task, laid out as the output folder is.

        When the block ends without an error, they are put in place together, and what the task
        had before and has no more is removed.

        Args:
            task: an image or a file that spans all images.
            seen: the task's `glances` from before its files were read.
            adds: whether the outputs that the task has stay beside the new ones; those in a folder
                that gets new ones do not: they are of other settings.

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
                self._commit(task, seen, adds=adds)
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
        entry = self._history.latest(task.key)
        is_readable = None not in task.glances().values()
        if entry is not None and is_readable and not self._is_valid(entry, task):
            promised = self._history.promised(task.key)
            self._remove(promised, promised)
        self._history.fail(task.key, Failure(task.label, type(error).__name__, message))

    def sweep(self) -> None:
        """Remove files that span the images of a run record which is no longer in force."""
        for key in self.outdated(SPANNING):
            promised = self._history.promised(key)
            self._remove(promised, promised)

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

    def _begin(self, version: str) -> None:
        """Compare this run with the one before; note it where it is another. Raises RunError."""
        old = self._history.record
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
        self._history.begin(self.record, version)

    def _is_intact(self, entry: Entry, task: Task) -> bool:
        """Return whether an entry is valid and its outputs are as they were written."""
        return self._is_valid(entry, task) and all(
            fingerprint.fits(self.path / at) for at, fingerprint in entry.outputs.items()
        )

    def _is_valid(self, entry: Entry, task: Task) -> bool:
        """Return whether an entry was made by this run record and from what the task has now."""
        return (
            self._history.is_current(task.key)
            and entry.given == task.given
            and entry.inputs.keys() == task.files.keys()
            and all(entry.inputs[role].fits(path) for role, path in task.files.items())
        )

    # Putting outputs in place

    def _commit(self, task: Task, seen: Glances, *, adds: bool) -> None:
        """Promise the staged files in the journal, then move them into place."""
        files = sorted(path for path in self._staging.rglob("*") if path.is_file())
        staged = {path.relative_to(self._staging).as_posix(): path for path in files}
        old, promised = self._history.latest(task.key), self._history.promised(task.key)
        if not staged and old is None:
            return
        for at in staged:
            self._check_free(at, promised)
        renewed = {_top(at) for at in staged}
        kept = {
            at: each
            for at, each in (old.outputs.items() if adds and old is not None else ())
            if _top(at) not in renewed
        }
        outputs = {**kept, **{at: Fingerprint.of(path) for at, path in staged.items()}}
        self._history.add(
            task.key, Entry(_unchanged(task, seen), outputs, task.kinds, task.given, task.label)
        )
        for at, path in staged.items():
            (self.path / at).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self.path / at)
        self._remove(promised.keys() - outputs.keys(), promised)

    def _check_free(self, at: str, promised: Promised) -> None:
        """Raise OutputError if what is at a path was not written by a run into this folder."""
        path = self.path / at
        if not (path.exists() or path.is_symlink()) or self._is_ours(at, promised):
            return
        if at not in promised or path.is_dir():
            raise OutputError(
                f"{path} is in the way and was not written by this package: move it away, or "
                "choose another folder"
            )
        if not self.overwrites:
            raise OutputError(
                f"{path} was changed after it was written: move it away, or use --overwrite"
            )
        self._keep(path, at)

    def _is_ours(self, at: str, promised: Promised) -> bool:
        """Return whether a file is as it was once promised, or empty, which loses nothing."""
        path = self.path / at
        if at not in promised or path.is_symlink() or not path.is_file():
            return False
        return path.stat().st_size == 0 or any(each.fits(path) for each in promised[at])

    def _keep(self, path: Path, at: str) -> None:
        """Move a file that the user has changed out of the way, under a name that is free."""
        kept = self.path / HIDDEN / "kept" / at
        kept.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while (free := kept.with_name(f"{kept.stem}.{number}{kept.suffix}")).exists():
            number += 1
        path.rename(free)

    def _remove(self, paths: Iterable[str], promised: Promised) -> None:
        """Remove those files that are ours, and the folders that become empty."""
        for at in sorted(paths):
            if not self._is_ours(at, promised):
                continue
            path = self.path / at
            path.unlink()
            for folder in list(path.parents)[: len(PurePosixPath(at).parents) - 1]:
                if any(folder.iterdir()):
                    break
                folder.rmdir()


def _top(at: str) -> str:
    """Return the first folder of an output's path, which is that of its kind."""
    return PurePosixPath(at).parts[0]


def _unchanged(task: Task, seen: Glances) -> dict[str, Fingerprint]:
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
        if str(staging) not in str(error):
            raise
        raise type(error)(str(error).replace(str(staging), str(folder))) from error
