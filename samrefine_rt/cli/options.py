"""Options that several commands share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from click.shell_completion import CompletionItem

from samrefine_rt import __version__
from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.grouped import GENERAL, RUNNING, Function, OneOf, option
from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.errors import (
    InputError,
    OutputError,
    SettingsError,
    did_you_mean,
    printable,
)
from samrefine_runtime.formats import BASE_FORMAT, LABEL_FORMATS
from samrefine_runtime.formats.image_list import read_image_list
from samrefine_runtime.image import IMAGE_SUFFIXES
from samrefine_runtime.names import ByImage, listed_id
from samrefine_runtime.registry import Registry
from samrefine_runtime.runs import HIDDEN, IMAGE, Task
from samrefine_runtime.runs.results_file import (
    check_replaceable,
    format_results,
    write_results_file,
)
from samrefine_runtime.settings import Domain, Settings, domains, settings_of

Folder = click.Path(file_okay=False, path_type=Path)
ExistingFolder = click.Path(exists=True, file_okay=False, path_type=Path)
ExistingFile = click.Path(exists=True, dir_okay=False, path_type=Path)
ExistingPath = click.Path(exists=True, path_type=Path)

STDOUT = "-"
"""The value of --json that stands for stdout."""

_SHOWN_NAMES = 5
"""Listed images that a message names."""

Kind = TypeVar("Kind", bound=Settings)


@dataclass(frozen=True)
class Given(Generic[Kind]):
    """The values of a settings class that the command line gives; defaults fill the rest."""

    kind: type[Kind]
    """The settings class."""
    values: Mapping[str, Any]
    """Given values by field."""

    def settings(self) -> Kind:
        """Build the settings from the given values and the class's defaults.

        Raises SettingsError.
        """
        return settings_of(self.kind, self.values)


def settings_options(
    kind: type[Settings],
    parameter: str,
    group: str,
    *,
    without: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    shows_defaults: bool = True,
) -> Callable[[Function], Function]:
    """Declare one option per field of a settings class that has help.

    Args:
        kind: the settings class.
        parameter: the command's parameter that receives a Given of that class.
        group: of the options in `--help`.
        without: fields without an option in this command.
        defaults: the command's own defaults, by field.
        choices: the subset of a field's choices that makes sense in the command, by field.
        shows_defaults: whether the class's defaults apply where nothing is given.
    """
    # Choose the fields and the defaults that --help names
    shown = {
        name: domain
        for name, domain in domains(kind).items()
        if domain.help and name not in without
    }
    own = {each.name: each.default for each in fields(kind)}  # type: ignore[arg-type]
    applied = {**(own if shows_defaults else {}), **(defaults or {})}

    def decorate(command: Function) -> Function:
        # Collect what was given; None stands for options that were not
        @wraps(command)
        def collected(*args: Any, **kwargs: Any) -> Any:
            values = {name: kwargs.pop(name) for name in shown}
            given = {name: value for name, value in values.items() if value is not None}
            return command(*args, **{parameter: Given(kind, given)}, **kwargs)

        # Declare the options; click lists the one declared last first
        decorated: Any = collected
        for name, domain in reversed(shown.items()):
            subset = (choices or {}).get(name, list(domain.choices))
            offered = {each: domain.choices[each] for each in subset}
            attributes = {
                "default": (defaults or {}).get(name),
                "help": _help(domain, applied.get(name), offered),
                **_type(domain, own[name], offered),
            }
            flag = domain.flag or f"--{name.replace('_', '-')}"
            decorated = option(flag, name, group=group, **attributes)(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def _help(domain: Domain, default: Any, choices: Mapping[str, str]) -> str:
    """Return an option's help with its choices and the default that applies."""
    phrases = "; ".join(f"{name}: {text}" for name, text in choices.items() if text)
    text = f"{domain.help} {phrases}." if phrases else domain.help
    if default is None or domain.kind is bool or "[default: " in text:
        return text
    return f"{text}  [default: {default}]"


def _type(domain: Domain, default: Any, choices: Mapping[str, str]) -> dict[str, Any]:
    """Return click's type, and metavar or flag, for the domain of a setting."""
    # A flag, once given, is the opposite of the default
    if domain.kind is bool:
        return {"is_flag": True, "flag_value": not default, "type": bool}
    if domain.kind is str:
        return {"type": OneOf(list(choices))}
    least = domain.least if domain.has_least else None
    most = domain.most if domain.has_most else None
    if least is None and most is None:
        return {"type": domain.kind, "metavar": "X"}
    if domain.kind is int:
        return {"type": click.IntRange(_whole(least), _whole(most)), "metavar": "N"}
    return {"type": click.FloatRange(least, most, min_open=domain.is_open), "metavar": "X"}


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def bundle_option(required: bool = True) -> Callable[[Function], Function]:
    """Declare --bundle."""
    text = 'Bundle folder, as "export" writes it, or "demo" for the embedded bundle.'
    return option("--bundle", metavar="BUNDLE", required=required, help=text)


def format_option(registry: Registry[Any], default: str) -> Callable[[Function], Function]:
    """Declare --format, handed on as a tuple `formats` of names in a registry."""
    text = f"One or more of {', '.join(registry)}, separated by commas."
    return option(
        "--format",
        "formats",
        type=NameList(registry),
        default=default,
        show_default=True,
        help=text,
    )


class NameList(click.ParamType):  # type: ignore[type-arg]
    """Names of a registry, separated by commas."""

    name = "names"

    def __init__(self, registry: Registry[Any]):
        self.registry = registry

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split and check the names; repeated ones count once."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        unknown = next((name for name in names if name not in self.registry), None)
        if unknown is not None or not names:
            hint = did_you_mean(unknown, self.registry) if unknown else ""
            known = ", ".join(self.registry)
            self.fail(f"{value!r}, expected one or more of {known}{hint}", param, ctx)
        return names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that the last of the given ones may become."""
        before, comma, last = incomplete.rpartition(",")
        names = (name for name in self.registry if name.startswith(last))
        return [CompletionItem(f"{before}{comma}{name}") for name in names]


class LabelFolder(click.ParamType):  # type: ignore[type-arg]
    """A folder of label PNGs; of what a command wrote, the folder in it that holds them."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder, which exists."""
        folder = Path(ExistingFolder.convert(value, param, ctx))
        labels = LABEL_FORMATS[BASE_FORMAT](folder / BASE_FORMAT, ()).path("label")
        is_output = (folder / HIDDEN).is_dir() and labels is not None and labels.parent.is_dir()
        return labels.parent if is_output and labels is not None else folder


def session_options(command: Function) -> Function:
    """Declare --backend and --threads, handed on as SessionOptions `session`."""

    @wraps(command)
    def collected(*args: Any, backend: str, session: Given[SessionOptions], **kwargs: Any) -> Any:
        options = SessionOptions(backend=backend, **session.values)
        return command(*args, session=options, **kwargs)

    decorated = settings_options(SessionOptions, "session", RUNNING)(collected)
    return option(  # type: ignore[return-value]
        "--backend",
        type=OneOf(backends.names()),
        default=backends.AUTO,
        show_default=True,
        group=RUNNING,
        help="Inference engine and device; auto takes the fastest that runs here.",
    )(decorated)


@dataclass(frozen=True)
class RunOptions:
    """What a run does with the results of earlier ones."""

    overwrites: bool = False
    """Whether results that are there are made again."""
    only_failed: bool = False
    """Whether only inputs that failed before are worked on."""
    only: Path | None = None
    """List of the images that are worked on, None for all."""

    def chosen(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks of listed images; listed images that are none of them are told of.

        Raises:
            SettingsError: the list cannot be read, or no task is listed.
        """
        if self.only is None:
            return tasks
        try:
            listed = [listed_id(name, IMAGE_SUFFIXES) for name in read_image_list(self.only)]
        except InputError as error:
            raise SettingsError(str(error)) from error
        # Which of the listed names each task is, if any
        names = ByImage({name: name for name in listed})
        found = {task.key: names.get(task.key.removeprefix(IMAGE)) for task in tasks}
        unknown = [name for name in listed if name not in found.values()]
        some = ", ".join(unknown[:_SHOWN_NAMES]) + (", ..." if unknown[_SHOWN_NAMES:] else "")
        if len(unknown) == len(listed):
            raise SettingsError(f"{self.only}: none of the images is listed (it lists {some})")
        if unknown:
            warn(f"{self.only}: {len(unknown)} listed images are not among the inputs: {some}")
        return [task for task in tasks if found[task.key] is not None]


def run_options(command: Function) -> Function:
    """Declare --resume/--overwrite, --retry-failed and --only, handed on as RunOptions `run`."""

    @wraps(command)
    def collected(
        *args: Any, overwrite: bool, retry_failed: bool, only: Path | None, **kwargs: Any
    ) -> Any:
        return command(*args, run=RunOptions(overwrite, retry_failed, only), **kwargs)

    decorated = option(
        "--only",
        type=ExistingFile,
        group=RUNNING,
        help="Work only on the images that a list names: one per line, or a CSV file with a column "
        "image.",
    )(collected)
    decorated = option(
        "--retry-failed",
        is_flag=True,
        group=RUNNING,
        help="Work only on inputs that failed before (failures.jsonl).",
    )(decorated)
    return option(  # type: ignore[return-value]
        "--overwrite/--resume",
        default=False,
        group=RUNNING,
        help="Make results again, or only those that are missing, whose image changed or that "
        "failed.  [default: --resume]",
    )(decorated)


def results_options(command: Function) -> Function:
    """Declare --json and -q: JSON on stdout stands alone, as if -q were given too."""

    @wraps(command)
    def collected(*args: Any, quiet: bool, json_file: Path | None, **kwargs: Any) -> Any:
        is_alone = str(json_file) == STDOUT
        return command(*args, quiet=quiet or is_alone, json_file=json_file, **kwargs)

    return json_option(quiet_option(collected))  # type: ignore[return-value]


def json_option(command: Function) -> Function:
    """Declare --json, handed on as the path `json_file`: None, a file, or - for stdout."""
    return option(
        "--json",
        "json_file",
        type=JsonFile(),
        is_flag=False,
        flag_value=STDOUT,
        metavar="[FILE]",
        group=GENERAL,
        help="Write the results as JSON, to stdout or to FILE, which must end in .json.",
    )(command)


class JsonFile(click.ParamType):  # type: ignore[type-arg]
    """A file for JSON results.

    The value of --json is optional, so the argument after it could be taken for a file name: only
    names that end in .json, pipes and character devices are accepted.
    """

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path if the name is accepted, else fail as a usage error."""
        path = Path(value)
        is_device = path.is_fifo() or path.is_char_device()
        if str(value) != STDOUT and path.suffix.lower() != ".json" and not is_device:
            self.fail(f"{value!r}, expected a file that ends in .json, or - for stdout", param, ctx)
        # A file in the way is an error before the work, not after it
        try:
            if str(value) != STDOUT:
                check_replaceable(path)
        except OutputError as error:
            self.fail(printable(error), param, ctx)
        return path


def write_results(results: Mapping[str, Any], json_file: Path | None) -> bool:
    """Write results as JSON to where --json says; return whether that is stdout.

    Raises OutputError.
    """
    if json_file is None:
        return False
    if str(json_file) == STDOUT:
        click.echo(format_results(results, __version__), nl=False)
        return True
    write_results_file(json_file, results, __version__)
    return False


def output_options(command: Function) -> Function:
    """Declare --json, -q and -v."""

    @wraps(command)
    def with_logging(*args: Any, verbose: int, **kwargs: Any) -> Any:
        with _logging_to_stderr(logging.INFO if verbose else logging.WARNING):
            return command(*args, **kwargs)

    text = "Verbose output, such as which backend runs each graph."
    verbose = option("-v", "--verbose", count=True, group=GENERAL, help=text)
    return results_options(verbose(with_logging))  # type: ignore[return-value]


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    """Show what the runtime logs from a level on, one line each, whatever else is set up.

    Not on the root logger: what other packages log is no news to a user, and a process that has
    set it up already would show nothing.
    """
    logger = logging.getLogger("samrefine_runtime")
    before = logger.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_once())
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; yield the function of (steps done, steps in all) that moves it."""
    # Looked up here, since click would bind stderr before a caller could replace it
    stderr = sys.stderr
    bar: Any = click.progressbar(length=1, hidden=quiet, file=stderr)

    def progress(done: int, total: int) -> None:
        # The number of steps is only known once the work has begun
        bar.length = total
        bar.update(done - bar.pos)

    with bar:
        yield progress


def quiet_option(command: Function) -> Function:
    """Declare -q."""
    text = "Print no progress bar and no summary."
    return option("-q", "--quiet", is_flag=True, group=GENERAL, help=text)(command)


def _once() -> Callable[[logging.LogRecord], bool]:
    """Return a log filter that lets each message pass once: every graph has the same to say."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_first = message not in seen
        seen.add(message)
        return is_first

    return is_new
