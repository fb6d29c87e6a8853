"""Opening the output folder of a command, the one place that decides where commands may write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samrefine_rt import __version__
from samrefine_rt.cli.bundles import warn
from samrefine_rt.cli.options import RunOptions
from samrefine_rt.signals import exit_in_order
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.runs import OutputFolder, RunRecord, bundle_identity, check_apart
from samrefine_runtime.settings import Settings, result_settings


def open_output(
    out: Path,
    command: str,
    options: RunOptions,
    *,
    inputs: Iterable[Path | None],
    bundle: Bundle | None,
    settings: Iterable[Settings] = (),
    **more: Any,
) -> OutputFolder:
    """Open the output folder of a command for one run.

    Args:
        out: the folder, which need not exist.
        command: name of the command.
        options: whether results that are there may be replaced.
        inputs: what the command was told to read; None for what was not given.
        bundle: the bundle that is used, if any.
        settings: all settings that the results depend on.
        more: further values that the results depend on, by name.

    Raises:
        SettingsError: the folder is an input, or lies inside or around one.
        RunError: it is in use, or holds the results of another run.
        OutputError: it cannot be written.
    """
    given = [path for path in inputs if path is not None]
    check_apart(out, given if bundle is None else [*given, bundle.path])
    record = RunRecord(
        command,
        None if bundle is None else bundle_identity(bundle),
        {**_merged(settings), **more},
    )
    # All that is imported is there, and from now on there is something to leave in order
    exit_in_order()
    folder = OutputFolder(out, record, __version__, overwrites=options.overwrites)
    if folder.changes:
        warn(f"{out}: replacing the results of another run ({folder.changes})")
    return folder


def _merged(settings: Iterable[Settings]) -> Mapping[str, Any]:
    """Join the fields of several settings; their names do not collide."""
    merged: dict[str, Any] = {}
    for each in settings:
        merged |= result_settings(each)
    return merged
