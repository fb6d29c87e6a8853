"""What classes are called: by --classes, by a file beside the labels, or by numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from samrefine_rt.cli.grouped import Function, option
from samrefine_runtime.class_names import FILE_NAME, are_voc, classes_of, numbered, read_classes
from samrefine_runtime.errors import SettingsError, printable
from samrefine_runtime.labels import VOC_CLASSES
from samrefine_runtime.runs import HIDDEN

_VOC = "voc"
"""The value of --classes that stands for PASCAL VOC's."""

_ABOVE = 2
"""Folders above a folder of labels in which its classes are looked for: `<out>/<format>/<set>`."""


class ClassList(click.ParamType):  # type: ignore[type-arg]
    """Class names: a file of them, or the names themselves, separated by commas."""

    name = "classes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the foreground names; fail as a usage error where there are none."""
        if isinstance(value, tuple):
            return value
        if value == _VOC:
            return VOC_CLASSES[1:]
        path = Path(value)
        is_file = path.suffix.lower() in (".txt", ".json", ".names") or "/" in value
        try:
            if is_file or path.is_file():
                return read_classes(path)
            return classes_of([part.strip() for part in value.split(",") if part.strip()])
        except SettingsError as error:
            self.fail(printable(error), param, ctx)


def classes_option(default: str) -> Callable[[Function], Function]:
    """Declare --classes, handed on as the foreground names `classes`, None if it is not given."""
    return option(
        "--classes",
        type=ClassList(),
        metavar="FILE|a,b,c",
        help="What the classes are called: a file with one name per line, the names themselves, or "
        f"voc.  [default: {default}]",
    )


def classes_beside(folder: Path) -> tuple[str, ...] | None:
    """Return the foreground classes that a file beside label maps names, None without a file.

    A command writes it into its output folder; in the folder of the labels itself it may be
    anybody's. Raises SettingsError for one that is no list of classes.
    """
    for place in (folder, *folder.resolve().parents[:_ABOVE]):
        is_output = (place / HIDDEN).is_dir()
        if (place == folder or is_output) and (place / FILE_NAME).is_file():
            return read_classes(place / FILE_NAME)
        if is_output:
            break
    return None


def names_of(
    ids: Iterable[str],
    *,
    given: tuple[str, ...] | None,
    num_classes: int | None,
    beside: tuple[str, ...] | None,
    bundle: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """Return the foreground names of label maps; what is not known is called "class 1" and so on.

    Args:
        ids: of the images.
        given: names by --classes.
        num_classes: by --num-classes, with background.
        beside: names in a file beside the labels.
        bundle: names of the bundle's classifier.

    Raises:
        SettingsError: the number of names is not the number of classes.
    """
    if given is not None and num_classes not in (None, len(given) + 1):
        raise SettingsError(
            f"--classes has {len(given)} names, with background {len(given) + 1}, --num-classes "
            f"is {num_classes}: give one of them"
        )
    if num_classes is not None and given is None:
        names = beside or (VOC_CLASSES[1:] if are_voc(ids) else ())
        return names if len(names) + 1 == num_classes else numbered(num_classes)
    unnamed = numbered(len(VOC_CLASSES))
    return given or beside or (VOC_CLASSES[1:] if are_voc(ids) else None) or bundle or unnamed
