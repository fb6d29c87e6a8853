"""Settings classes whose fields state their own range, for checks and for the command line.

A setting is declared once, with its default, its range and one line of help:

    @dataclass(frozen=True)
    class RefineSettings(Settings):
        min_inside: float = real(0.5, least=0, most=1, help="Minimum fraction of a mask ...")

`Settings` checks every value against the field's range; a field with `help` becomes an option of
each command that takes these settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from samrefine_runtime.checks import described
from samrefine_runtime.errors import SettingsError

_DOMAIN = "domain"
"""Key of a field's metadata."""


@dataclass(frozen=True)
class Domain:
    """The values that a setting may have, and how a command line presents it."""

    kind: type
    """int, float, bool or str."""
    least: float = -math.inf
    most: float = math.inf
    is_open: bool = False
    """Whether the least value itself is excluded."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """For str: the values, each with one phrase of help, which may be empty; none: any text."""
    is_optional: bool = False
    """Whether None is a value."""
    help: str = ""
    """One line for the command line, which has no option for a field without it."""
    flag: str | None = None
    """Option name where it is not the field's own."""
    changes_result: bool = True
    """Whether the results of a run depend on it; False for what only costs time or memory."""

    def contains(self, value: object) -> bool:
        """Return whether a setting may have this value."""
        if value is None:
            return self.is_optional
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is str:
            return isinstance(value, str) and (not self.choices or value in self.choices)
        # bool is a subclass of int, but no number here; NaN fails both comparisons
        number = Integral if self.kind is int else Real
        if not isinstance(value, number) or isinstance(value, bool):
            return False
        # Compared as it is: a whole number may be too large for a float
        number_value: Any = value
        is_above = self.least < number_value if self.is_open else self.least <= number_value
        return bool(is_above and number_value <= self.most)

    def check(self, name: str, value: object) -> None:
        """Raise SettingsError that calls the value `name` unless a setting may have it."""
        if not self.contains(value):
            raise SettingsError(f"{name} is {described(value)}, expected {self}")

    def __str__(self) -> str:
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return f"one of {', '.join(self.choices)}" if self.choices else "a text"
        return ("a whole number" if self.kind is int else "a number") + self._range()

    def _range(self) -> str:
        if self.is_open:
            return f" above {self.least}" + (f", at most {self.most}" if self.has_most else "")
        if self.has_least and self.has_most:
            return f" from {self.least} to {self.most}"
        if self.has_most:
            return f" of at most {self.most}"
        return f" of at least {self.least}" if self.has_least else ""

    @property
    def has_least(self) -> bool:
        """Whether there is a lower bound."""
        return not math.isinf(self.least)

    @property
    def has_most(self) -> bool:
        """Whether there is an upper bound."""
        return not math.isinf(self.most)


def whole(
    default: int | None, least: float = -math.inf, most: float = math.inf, **more: Any
) -> Any:
    """Declare a field of whole numbers; `more` are fields of Domain."""
    return _number(int, default, least, most, more)


def real(
    default: float | None, least: float = -math.inf, most: float = math.inf, **more: Any
) -> Any:
    """Declare a field of numbers; `more` are fields of Domain."""
    return _number(float, default, least, most, more)


def switch(default: bool, **more: Any) -> Any:
    """Declare a field that is true or false; its option sets the opposite of the default."""
    return _setting(default, Domain(bool, **more))


def text(default: str | None, **more: Any) -> Any:
    """Declare a field of any text; `more` are fields of Domain."""
    return _setting(default, Domain(str, **more))


def choice(default: str, choices: Mapping[str, str] | Sequence[str], **more: Any) -> Any:
    """Declare a field with one of some names, which may come with one phrase of help each."""
    texts = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    return _setting(default, Domain(str, choices=texts, **more))


def _number(kind: type, default: Any, least: float, most: float, more: dict[str, Any]) -> Any:
    """Declare a field of numbers; one whose default is None is optional."""
    return _setting(default, Domain(kind, least, most, **{"is_optional": default is None, **more}))


def _setting(default: Any, domain: Domain) -> Any:
    return field(default=default, metadata={_DOMAIN: domain})


class Settings:
    """The base of settings classes, which are frozen dataclasses."""

    def __post_init__(self) -> None:
        for name, domain in domains(type(self)).items():
            domain.check(name, getattr(self, name))


Kind = TypeVar("Kind", bound=Settings)


def domains(kind: type[Settings]) -> dict[str, Domain]:
    """Return the domain of every field that declares one, by name."""
    found = {each.name: each.metadata.get(_DOMAIN) for each in fields(kind)}  # type: ignore[arg-type]
    return {name: domain for name, domain in found.items() if domain is not None}


def result_settings(settings: Settings) -> dict[str, Any]:
    """Return the fields on which results depend, by name, as JSON values."""
    known = domains(type(settings))
    values = {
        each.name: getattr(settings, each.name)
        for each in fields(settings)  # type: ignore[arg-type]
        if each.name not in known or known[each.name].changes_result
    }
    # Arrays and tuples become lists, as they will be when they are read back
    parsed: dict[str, Any] = json.loads(json.dumps(values, default=lambda array: array.tolist()))
    return parsed


def check_names(kind: type[Settings], given: Mapping[str, Any]) -> list[str]:
    """Return the names of a class's settings. Raises SettingsError if one given is none."""
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise SettingsError(
                f"unknown setting {described(name)}, expected one of {', '.join(known)}"
            )
    return known


def settings_of(
    kind: type[Kind], given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Kind:
    """Build settings from given values over defaults.

    Args:
        kind: the settings class.
        given: values by field name.
        defaults: used where nothing is given; names that are no field are ignored, so that a
            bundle of a later release can be read.

    Raises:
        SettingsError: a given name is not a field, or a value is out of range.
    """
    known = check_names(kind, given)
    # Unknown defaults are another release's
    usable = {name: value for name, value in (defaults or {}).items() if name in known}
    # The caller gave none of these: say whose they are
    for name, domain in domains(kind).items():
        if name in usable and name not in given and not domain.contains(usable[name]):
            value = described(usable[name])
            raise SettingsError(f"{name} is {value}, expected {domain}; it is the bundle's default")
    return kind(**{**usable, **given})
