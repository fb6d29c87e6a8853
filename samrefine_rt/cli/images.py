"""The images that a command is given: files, folders of folders, and lists of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.grouped import Function
from samrefine_rt.cli.options import ExistingPath
from samrefine_runtime.errors import InputError, SettingsError, printable
from samrefine_runtime.formats.image_list import read_image_list
from samrefine_runtime.image import IMAGE_SUFFIXES
from samrefine_runtime.listing import walk
from samrefine_runtime.names import image_id

_SHOWN_NAMES = 3
"""Files left out that a message names, for each reason."""


class ImagePath(click.ParamType):  # type: ignore[type-arg]
    """An image, a folder, or @ and a list of them; always a list of paths."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[Path]:
        """Return the paths; what a list names need not exist, reading it says so."""
        text = str(value)
        if not text.startswith("@") or Path(text).exists():
            return [ExistingPath.convert(value, param, ctx)]
        path = Path(text[1:])
        try:
            return [_found(name, path.parent) for name in read_image_list(path)]
        except InputError as error:
            self.fail(printable(error), param, ctx)


def _found(name: str, folder: Path) -> Path:
    """Return a listed path as it is, or from the list's folder where only that exists."""
    beside = folder / name
    return beside if beside.exists() and not Path(name).exists() else Path(name)


def images_argument(*, required: bool = True) -> Callable[[Function], Function]:
    """Declare the images, handed on as a tuple of paths `images`."""

    def decorate(command: Function) -> Function:
        return click.argument(
            "images",
            nargs=-1,
            required=required,
            type=ImagePath(),
            metavar="IMAGE|DIR|@LIST..." if required else "[IMAGE|DIR|@LIST]...",
            callback=lambda context, parameter, lists: tuple(p for each in lists for p in each),
        )(command)

    return decorate


@dataclass
class FoundImages:
    """Images by id, and what was left out."""

    files: dict[str, Path] = field(default_factory=dict)
    """Files by id, in the order given; those of a folder sorted."""
    ignored: dict[str, list[Path]] = field(default_factory=dict)
    """Files and folders that are no images, by reason."""

    def counts(self) -> dict[str, int]:
        """Return how many were left out, by reason."""
        return {reason: len(paths) for reason, paths in self.ignored.items()}

    def left_out(self) -> str:
        """Describe what was left out in a phrase; "" if nothing was."""
        return ", ".join(
            f"{len(paths)} {reason} ({_some(paths)})" for reason, paths in self.ignored.items()
        )

    def tell(self, *, quiet: bool) -> None:
        """Say on stderr what was left out, if anything was."""
        if self.ignored and not quiet:
            click.echo(
                printable(f"{len(self.files)} images; left out: {self.left_out()}"), err=True
            )


def _some(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_SHOWN_NAMES])
    return names + (", ..." if len(paths) > _SHOWN_NAMES else "")


def find_images(paths: Sequence[Path]) -> FoundImages:
    """Find images by id: the path inside the folder that was given, without suffix.

    Raises:
        SettingsError: there is no image, or two have the same id, so that their outputs collide.
    """
    found = FoundImages()
    for path, given, reason in _files(paths):
        if reason:
            found.ignored.setdefault(reason, []).append(path)
            continue
        name = image_id(path, given if path != given else None)
        known = found.files.setdefault(name, path)
        if known != path:
            raise SettingsError(
                f"{known} and {path} would both be written as {name}; give the folder above both, "
                "different names or separate output folders"
            )
    if not found.files:
        left_out = f"; left out: {found.left_out()}" if found.ignored else ""
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        places = ", ".join(map(str, paths))
        raise SettingsError(f"no images in {places} (expected {kinds}{left_out})")
    return found


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, Path, str]]:
    """Yield files, the path that was given for each, and why it is left out ("" if it is not).

    What is no file, such as a link that leads nowhere, is an image: reading it says what it is.
    """
    for given in paths:
        if given.is_dir():
            yield from ((path, given, reason) for path, reason in walk(given, IMAGE_SUFFIXES))
        else:
            yield given, given, ""


def image_files(paths: Sequence[Path]) -> Mapping[str, Path]:
    """Return `find_images(paths).files`."""
    return find_images(paths).files
