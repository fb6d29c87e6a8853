"""Work over many inputs: a broken one is reported and the rest is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.options import RunOptions, write_results
from samrefine_runtime.atomic import write_bytes
from samrefine_runtime.backends import RunsOn
from samrefine_runtime.errors import (
    BackendError,
    InputError,
    OutputError,
    StorageError,
    message_of,
    printable,
)
from samrefine_runtime.runs import IMAGE, Glances, OutputFolder, Task

Advance = Callable[[float], None]
"""Called with the fraction of one input that is done, 0 to 1."""

Write = Callable[[Path], object]
"""Writes the outputs of one input into a folder that is laid out as the output folder."""

Work = Callable[[Task, Sequence[str], Advance], Write]
"""Does the work on an input, given the kinds of output that are missing."""

FAILURES = "failures.jsonl"
"""File that lists the inputs that failed, with the reason."""

_STEPS = 1000
"""Steps of the progress bar per input: it moves within large images too."""


@dataclass
class Outcome:
    """Which inputs of a command are done, were skipped, or failed."""

    done: list[str] = field(default_factory=list)
    """Inputs whose output is written."""
    skipped: list[str] = field(default_factory=list)
    """Inputs whose output was there, made from the same by an earlier run."""
    failed: dict[str, str] = field(default_factory=dict)
    """Message by input, or by file that spans all of them."""

    @contextmanager
    def keeping_failure(self, label: str) -> Iterator[None]:
        """Record and show a failure instead of raising it; a full disk is raised all the same."""
        try:
            yield
        except StorageError:
            raise
        except (InputError, OutputError, BackendError, MemoryError) as error:
            self.failed[label] = message = message_of(error)
            # Most messages name the file already
            name = printable(label)
            shown = message if message.startswith(f"{name}:") else f"{name}: {message}"
            click.echo(f"\nError: {shown}", err=True)

    def finish(
        self,
        *,
        quiet: bool,
        json_file: Path | None,
        runs_on: Mapping[str, RunsOn] | None = None,
        **details: Any,
    ) -> None:
        """Print the summary, write it as JSON if asked for, and exit with 1 if an input failed.

        Args:
            quiet: whether to print no summary.
            json_file: where --json says.
            runs_on: what ran the graphs, by graph; None where none was run.
            details: further results, by name.

        Raises:
            OutputError: the JSON cannot be written.
        """
        if runs_on is not None:
            details["backends"] = {graph: found.backend for graph, found in runs_on.items()}
        is_printed = write_results({**vars(self), **details}, json_file)
        if not quiet and not is_printed:
            words = [f"{len(self.done)} done"]
            words += [f"{len(self.skipped)} skipped"] if self.skipped else []
            words += [f"{len(self.failed)} failed"] if self.failed else []
            click.echo(", ".join(words), err=True)
            for line in described(runs_on or {}):
                click.echo(line, err=True)
        if self.failed:
            click.get_current_context().exit(1)


def described(runs_on: Mapping[str, RunsOn]) -> list[str]:
    """Say which backends ran, and why none that "auto" prefers to them did; one line each."""
    used = dict.fromkeys(found.backend for found in runs_on.values())
    lines = [f"backend {', '.join(used)}"] if used else []
    # Several may lack the same
    passed_over: dict[str, dict[str, None]] = {}
    for found in runs_on.values():
        for name, why in found.passed_over.items():
            passed_over.setdefault(why, {})[name] = None
    return lines + [f"not {', '.join(each)}: {printable(why)}" for why, each in passed_over.items()]


def run_batch(
    tasks: Sequence[Task], work: Work, folder: OutputFolder, options: RunOptions, *, quiet: bool
) -> Outcome:
    """Do `work` for every input behind a progress bar, and list what failed in FAILURES.

    The output of one input is written while the next one is worked on. An input that fails is
    shown at once and kept for the summary and for the next run.

    Args:
        tasks: the inputs.
        work: what is done for each.
        folder: where the outputs go; what is there already is not made again.
        options: whether to make it again all the same, or to do only what failed before or what
            is listed.
        quiet: whether to hide the progress bar.

    Raises:
        SettingsError: none of the inputs is listed.
        StorageError: the disk takes no more.
    """
    tasks = options.chosen(tasks)
    if options.only_failed:
        tasks = [task for task in tasks if task.key in folder.failures]
    batch = _Batch(folder, work, options.overwrites)
    # Looked up here, since click would bind stderr before a caller could replace it
    stderr = sys.stderr
    bar: Any = click.progressbar(length=len(tasks) * _STEPS, hidden=quiet, file=stderr)
    with bar, ThreadPoolExecutor(max_workers=1) as pool:
        writing: Future[None] | None = None
        for index, (task, seen) in enumerate(_looked_at(tasks)):

            def advance(fraction: float, base: int = index * _STEPS) -> None:
                bar.update(base + int(fraction * _STEPS) - bar.pos)

            # Work on this input while the previous one is written
            write = batch.prepare(task, seen, advance)
            # Wait for the previous output: at most two results are in memory, and a StorageError
            # ends the run
            if writing is not None:
                writing.result()
            writing = None if write is None else pool.submit(write)
            advance(1.0)
        if writing is not None:
            writing.result()
    _list_failures(folder)
    left = {*folder.outdated(IMAGE)} - {task.key for task in tasks}
    if left:
        warn(f"{folder.path} also holds results of {len(left)} images made with other settings")
    return batch.outcome


class _Batch:
    """Inputs on their way into an output folder."""

    def __init__(self, folder: OutputFolder, work: Work, overwrites: bool):
        self.folder, self.work, self.overwrites = folder, work, overwrites
        self.outcome = Outcome()

    def prepare(self, task: Task, seen: Glances, advance: Advance) -> Callable[[], None] | None:
        """Do the work on an input; return what writes its outputs, None if there is nothing."""
        missing = task.kinds if self.overwrites else self.folder.missing(task)
        if not missing:
            self.outcome.skipped.append(task.label)
            return None
        with self._keeping_failure(task):
            write = self.work(task, missing, advance)
            # What is derived goes beside what is there
            return lambda: self._write(task, seen, write, adds=len(missing) < len(task.kinds))
        return None

    def _write(self, task: Task, seen: Glances, write: Write, *, adds: bool) -> None:
        """Write the outputs of an input and count it as done."""
        with self._keeping_failure(task):
            with self.folder.stage(task, seen, adds=adds) as staging:
                write(staging)
            self.outcome.done.append(task.label)

    @contextmanager
    def _keeping_failure(self, task: Task) -> Iterator[None]:
        """Record and show a failure of an input, and note it in the journal for the next run."""
        with self.outcome.keeping_failure(task.label):
            try:
                yield
            except (InputError, OutputError, BackendError, MemoryError) as error:
                if not isinstance(error, StorageError):
                    self.folder.fail(task, error, message_of(error))
                raise


def _looked_at(tasks: Sequence[Task]) -> Iterator[tuple[Task, Glances]]:
    """Yield each task with size and time of its files, looked at before the task before it starts.

    While that one is worked on, the files may be read ahead: a change since must be noticed.
    """
    following = [*tasks[1:], None]
    seen = tasks[0].glances() if tasks else {}
    for task, after in zip(tasks, following, strict=True):
        current, seen = seen, {} if after is None else after.glances()
        yield task, current


def _list_failures(folder: OutputFolder) -> None:
    """Write FAILURES, one JSON object per line; no failures, no file. Raises OutputError."""
    lines = [
        json.dumps({"input": each.label, "error": each.kind, "message": each.message}) + "\n"
        for _, each in sorted(folder.failures.items())
    ]

    def write(staging: Path) -> None:
        if lines:
            write_bytes(staging / FAILURES, "".join(lines).encode())

    folder.span("failures", lines, write)
