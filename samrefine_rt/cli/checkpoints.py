"""Checkpoints on the command line: files, or names of weights that `samrefine pull` got."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from samrefine_runtime.errors import BackendError, SamrefineError


class Checkpoint(click.ParamType):  # type: ignore[type-arg]
    """A path or a name; which of them it is, the exporter finds out."""

    name = "file|name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return it as a path, which need not exist."""
        return Path(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so, and files."""
        names = complete_weights(ctx, param, incomplete)
        return [*names, CompletionItem(incomplete, type="file")]


def complete_weights(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of weights that begin so; none where no registry can be read."""
    try:
        known = weights_module("registry").known_weights()
    except SamrefineError:
        return []
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def weights_module(name: str) -> Any:
    """Import a module of the exporter's room of weights, which needs no torch.

    Raises BackendError where a package is missing.
    """
    try:
        return importlib.import_module(f"samrefine_export.weights.{name}")
    except ImportError as error:
        raise BackendError(
            f"pulling weights needs {error.name or error}: pip install 'samrefine-rt[export]'"
        ) from error
