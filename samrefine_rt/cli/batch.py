"""Work over many inputs: a broken one is reported and the rest is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from samrefine_runtime.errors import InputError, SettingsError
from samrefine_runtime.image import IMAGE_SUFFIXES

Item = TypeVar("Item")
Report = Callable[[float], None]
"""told the share of one input that is done, 0 to 1"""

_STEPS = 1000


@dataclass
class Outcome:
    """What became of the inputs."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """message by input"""

    def finish(self, *, quiet: bool, as_json: bool, **details: Any) -> None:
        """Print the summary and leave with exit code 1 if an input failed."""
        if as_json:
            click.echo(json.dumps({**vars(self), **details}, indent=2))
        elif not quiet:
            words = [f"{len(self.done)} done"]
            words += [f"{len(self.skipped)} skipped"] if self.skipped else []
            words += [f"{len(self.failed)} failed"] if self.failed else []
            click.echo(", ".join(words), err=True)
        if self.failed:
            click.get_current_context().exit(1)


def image_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Photos by id (file name without suffix), in order; folders give their photos, sorted.

    Raises:
        SettingsError: no photo at all, or two of one id: their outputs would collide.
    """
    found: dict[str, Path] = {}
    for path in (file for given in paths for file in _photos(given)):
        if found.get(path.stem, path) != path:
            raise SettingsError(
                f"{found[path.stem]} and {path} would both be written as {path.stem}; "
                "give them different names or separate output folders"
            )
        found[path.stem] = path
    if not found:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise SettingsError(f"no photos in {', '.join(map(str, paths))} (known are {kinds})")
    return found


def _photos(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "." and file.is_file()
    )


def run_batch(
    items: Sequence[Item],
    work: Callable[[Item, Report], bool],
    *,
    name: Callable[[Item], str],
    quiet: bool,
) -> Outcome:
    """Do `work` for every item behind a progress bar.

    `work` returns False where there was nothing to do. InputError and MemoryError of one item are
    kept for the summary and shown at once.
    """
    outcome = Outcome()
    stderr = sys.stderr
    bar: Any = click.progressbar(length=len(items) * _STEPS, hidden=quiet, file=stderr)
    with bar:
        for index, item in enumerate(items):

            def report(share: float, base: int = index * _STEPS) -> None:
                bar.update(base + int(share * _STEPS) - bar.pos)

            label = name(item)
            try:
                worked = work(item, report)
                (outcome.done if worked else outcome.skipped).append(label)
            except (InputError, MemoryError) as error:
                message = " ".join(str(error).split()) or "out of memory"
                outcome.failed[label] = message
                click.echo(f"\nError: {label}: {message}", err=True)
            report(1.0)
    return outcome
