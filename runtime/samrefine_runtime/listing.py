"""The files of a folder and the folders in it, and why some of them are left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

RESULTS = ".samrefine"
"""Name of the folder that marks an output folder (`runs.HIDDEN`): its files are results."""

HIDDEN, OTHER_TYPE, OUTPUTS, CLOSED = "hidden", "of other types", "holding results", "not readable"
"""Why a file or folder is left out."""


def walk(folder: Path, suffixes: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file with "", or a file or folder that is left out with the reason.

    Links to folders are followed, each folder once. Folders that are left out are not looked into.

    Args:
        folder: the folder, whatever its name and its contents.
        suffixes: of the files that are wanted, lower case.
    """
    pending, seen = [folder], set()
    while pending:
        current = pending.pop()
        try:
            status = current.stat()
            entries = sorted(current.iterdir())
        except OSError:
            yield current, CLOSED
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        # The files of a folder, then its folders in order
        folders = {path for path in entries if path.is_dir()}
        for path in entries:
            reason = _reason(path, suffixes, is_folder=path in folders)
            if reason or path not in folders:
                folders.discard(path)
                yield path, reason
        pending += sorted(folders, reverse=True)


def _reason(path: Path, suffixes: Collection[str], *, is_folder: bool) -> str:
    """Return why a file or folder is left out, "" if it is not."""
    if path.name[0] == ".":
        return HIDDEN
    if is_folder:
        return OUTPUTS if (path / RESULTS).is_dir() else ""
    return "" if path.suffix.lower() in suffixes else OTHER_TYPE


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the files that `walk` does not leave out."""
    return [path for path, reason in walk(folder, suffixes) if not reason]
