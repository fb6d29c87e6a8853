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


@dataclass
class Outcome:
    """What became of the inputs of a command."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Message by input."""

    @contextmanager
    def keeping_failure(self, label: str) -> Iterator[None]:
        """Record and show an input that turns out to be broken."""
        try:
            yield
        except (InputError, MemoryError) as error:
            message = " ".join(str(error).split()) or "out of memory"
            self.failed[label] = message
            click.echo(f"\nError: {label}: {message}", err=True)

    def write(self, label: str, write: Write) -> None:
        """Write the output of an input, which is done then."""
        with self.keeping_failure(label):
            write()
            self.done.append(label)

    def finish(self, *, quiet: bool, json_file: Path | None, **details: Any) -> None:
        """Print the summary, write it as JSON too, and exit with 1 if an input failed.

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
    """Find images by id (file name without suffix), in order; folders give theirs, sorted.

    Raises:
        SettingsError: there is no image, or two have one id, so that their outputs would collide.
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
        raise SettingsError(f"no images in {', '.join(map(str, paths))} (known are {kinds})")
    return found


def _images_in(path: Path) -> Iterable[Path]:
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

    The output of one item is written while the next one is worked on.

    `work` returns None where there was nothing to do. InputError and MemoryError of one item are
    kept for the summary and shown at once.
    """
    outcome = Outcome()
    stderr = sys.stderr
    bar: Any = click.progressbar(length=len(items) * _STEPS, hidden=quiet, file=stderr)
    with bar, ThreadPoolExecutor(max_workers=1) as pool:
        writing: Future[None] | None = None
        for index, item in enumerate(items):

            def advance(fraction: float, base: int = index * _STEPS) -> None:
                bar.update(base + int(fraction * _STEPS) - bar.pos)

            label, write = name(item), None
            with outcome.keeping_failure(label):
                write = work(item, advance)
                if write is None:
                    outcome.skipped.append(label)
            if writing is not None:
                writing.result()
            writing = None if write is None else pool.submit(outcome.write, label, write)
            advance(1.0)
        if writing is not None:
            writing.result()
    return outcome
