"""Work over many inputs: a broken one is reported and the rest is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from samrefine_rt.cli.options import write_results
from samrefine_runtime.errors import InputError, SettingsError
from samrefine_runtime.image import IMAGE_SUFFIXES

Item = TypeVar("Item")
Advance = Callable[[float], None]
"""Called with the fraction of one input that is done, 0 to 1."""

Write = Callable[[], object]
"""Writes the output of one input."""

_STEPS = 1000
"""Steps of the progress bar per input: it moves within large images too."""


@dataclass
class Outcome:
    """Which inputs of a command are done, were skipped, or failed."""

    done: list[str] = field(default_factory=list)
    """Inputs whose output is written."""
    skipped: list[str] = field(default_factory=list)
    """Inputs whose output existed before."""
    failed: dict[str, str] = field(default_factory=dict)
    """Message by input."""

    @contextmanager
    def keeping_failure(self, label: str) -> Iterator[None]:
        """Record and show a failure of an input instead of raising it."""
        try:
            yield
        except (InputError, MemoryError) as error:
            message = " ".join(str(error).split()) or "out of memory"
            self.failed[label] = message
            click.echo(f"\nError: {label}: {message}", err=True)

    def write(self, label: str, write: Write) -> None:
        """Write the output of an input and count it as done."""
        with self.keeping_failure(label):
            write()
            self.done.append(label)

    def finish(self, *, quiet: bool, json_file: Path | None, **details: Any) -> None:
        """Print the summary, write it as JSON if asked for, and exit with 1 if an input failed.

        Raises OutputError.
        """
        is_printed = write_results({**vars(self), **details}, json_file)
        if not quiet and not is_printed:
            words = [f"{len(self.done)} done"]
            words += [f"{len(self.skipped)} skipped"] if self.skipped else []
            words += [f"{len(self.failed)} failed"] if self.failed else []
            click.echo(", ".join(words), err=True)
        if self.failed:
            click.get_current_context().exit(1)


def image_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Find images by id (file name without suffix), in the order given; folders are sorted.

    Raises:
        SettingsError: there is no image, or two have the same id, so that their outputs collide.
    """
    found: dict[str, Path] = {}
    for path in (file for given in paths for file in _images_in(given)):
        if found.get(path.stem, path) != path:
            raise SettingsError(
                f"{found[path.stem]} and {path} would both be written as {path.stem}; "
                "give them different names or separate output folders"
            )
        found[path.stem] = path
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise SettingsError(f"no images in {', '.join(map(str, paths))} (expected {kinds})")
    return found


def _images_in(path: Path) -> Iterable[Path]:
    """List the images of a folder by suffix, hidden files aside; a file stands for itself."""
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "." and file.is_file()
    )


def run_batch(
    items: Sequence[Item],
    work: Callable[[Item, Advance], Write | None],
    *,
    name: Callable[[Item], str],
    quiet: bool,
) -> Outcome:
    """Do `work` for every item behind a progress bar.

    The output of one item is written while the next one is worked on. InputError and MemoryError
    of one item are shown at once and kept for the summary.

    Args:
        items: the inputs.
        work: called with an item and a function that takes the fraction done; returns what writes
            the output, or None if there is nothing to do.
        name: returns how messages and the summary call an item.
        quiet: whether to hide the progress bar.
    """
    outcome = Outcome()
    # Looked up here, since click would bind stderr before a caller could replace it
    stderr = sys.stderr
    bar: Any = click.progressbar(length=len(items) * _STEPS, hidden=quiet, file=stderr)
    with bar, ThreadPoolExecutor(max_workers=1) as pool:
        writing: Future[None] | None = None
        for index, item in enumerate(items):

            def advance(fraction: float, base: int = index * _STEPS) -> None:
                bar.update(base + int(fraction * _STEPS) - bar.pos)

            # Work on this item while the previous one is written
            label, write = name(item), None
            with outcome.keeping_failure(label):
                write = work(item, advance)
                if write is None:
                    outcome.skipped.append(label)
            # Wait for the previous output: at most two results are in memory, and an OutputError
            # ends the run
            if writing is not None:
                writing.result()
            writing = None if write is None else pool.submit(outcome.write, label, write)
            advance(1.0)
        if writing is not None:
            writing.result()
    return outcome
