"""Things by name, each in a module of its own that is imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from samrefine_runtime.checks import described
from samrefine_runtime.errors import SettingsError, did_you_mean

Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """A table of extensions: backends, label formats, mask formats.

    Names are known without an import, so that a command line can list them at no cost, and an
    extension whose packages are missing harms nobody who does not use it.
    """

    def __init__(self, kind: str, homes: Mapping[str, str]):
        """Register what this package brings.

        Args:
            kind: what the things are called in messages, such as "backend".
            homes: "module:attribute" by name.
        """
        self.kind = kind
        self._homes = dict(homes)
        self._loaded: dict[str, Thing] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __getitem__(self, name: str) -> Thing:
        """Import the thing called `name`. Raises SettingsError if there is none."""
        self.check(name)
        if name not in self._loaded:
            module, _, attribute = self._homes[name].partition(":")
            self._loaded[name] = cast(Thing, getattr(importlib.import_module(module), attribute))
        return self._loaded[name]

    def check(self, name: str, parameter: str = "") -> None:
        """Raise SettingsError unless `name` is registered; suggests what may have been meant.

        The message calls it `parameter`, or what the things are.
        """
        if isinstance(name, str) and name in self._homes:
            return
        hint = did_you_mean(name, self._homes) if isinstance(name, str) else ""
        raise SettingsError(
            f"{parameter or self.kind} is {described(name)}, expected one of "
            f"{', '.join(self._homes)}{hint}"
        )

    def add(self, name: str, thing: Thing) -> None:
        """Register a thing of another package under `name`, replacing any of that name."""
        # The home is for reading only: the thing itself is loaded already
        self._homes[name] = f"{getattr(thing, '__module__', '')}:{name}"
        self._loaded[name] = thing

    def remove(self, name: str) -> None:
        """Forget the thing called `name`. Raises SettingsError if there is none."""
        self.check(name)
        del self._homes[name]
        self._loaded.pop(name, None)
