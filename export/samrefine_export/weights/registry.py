"""Which weights there are: the package's registry file, and those of users.

A registry is a JSON file, `{"weights": {NAME: {"url": ...}}}`. Beside its URL an entry may say
`size` in bytes, `sha256` (all 64 hex digits, or the first 8 or more where only these are
published), `sha256_from` (who says so), `licence`, `about`, and the `file` name where the URL ends
otherwise. What is not known for certain is left out, and not compared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from samrefine_export.errors import RegistryError
from samrefine_runtime.arguments import as_iterator
from samrefine_runtime.checks import StrPath, as_path, described
from samrefine_runtime.errors import SettingsError, did_you_mean
from samrefine_runtime.formats.jsonfile import read_json

OWN = Path(__file__).with_name("weights.json")
"""The package's registry."""

VARIABLE = "SAMREFINE_REGISTRY"
"""Environment variable with further registry files, separated as PATH is."""

_WEIGHTS = "weights"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Of weights and of their files: each is the name of a folder or a file in the cache."""
_DIGITS = re.compile(r"[0-9a-f]{8,64}")
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class Weights:
    """One published file of weights. Raises RegistryError, which names the entry."""

    name: str
    url: str
    file: str = ""
    """File name, by default the last part of the URL's path."""
    size: int | None = None
    """Bytes; None where that is not known for certain."""
    sha256: str | None = None
    """Hex digits, all or the first; None where none are known for certain."""
    sha256_from: str = ""
    """Who says what the sha256 is."""
    licence: str = "unknown"
    about: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(unquote(urlsplit(self.url).path)) if self._has_url() else None
        if path is None:
            raise self._unusable("url", "an http or https URL")
        # Frozen: the default depends on another field
        object.__setattr__(self, "file", self.file or path.name)
        if not _NAME.fullmatch(self.name):
            raise self._unusable("name", "letters, digits, '.', '_' and '-'")
        if not _NAME.fullmatch(self.file):
            raise self._unusable("file", "a file name of letters, digits, '.', '_' and '-'")
        if self.sha256 is not None and not _DIGITS.fullmatch(self.sha256):
            raise self._unusable("sha256", "8 to 64 lower-case hex digits")
        is_whole = isinstance(self.size, int) and not isinstance(self.size, bool)
        if self.size is not None and not (is_whole and self.size > 0):
            raise self._unusable("size", "a whole number above 0")

    def _has_url(self) -> bool:
        try:
            parts = urlsplit(self.url)
        except ValueError:  # brackets that are no IPv6 address
            return False
        return parts.scheme in ("http", "https") and bool(parts.hostname)

    def _unusable(self, field: str, expected: str) -> RegistryError:
        value = described(getattr(self, field))
        return RegistryError(f"weights {self.name}: {field} is {value}, expected {expected}")

    @property
    def pins(self) -> str:
        """Say in a few words what a file of these weights is compared with."""
        if self.sha256 is None:
            return "nothing" if self.size is None else "size"
        is_all = len(self.sha256) == _SHA256_DIGITS
        return "sha256" if is_all else f"sha256 ({len(self.sha256)} digits)"


_TEXTS = {each.name for each in fields(Weights)} - {"name", "size"}


def known_weights(registries: Iterable[StrPath] = ()) -> dict[str, Weights]:
    """Return all weights by name: the package's, then the user's, which replace those of one name.

    The user's registries are `samrefine/weights.json` in the folder of configurations
    (XDG_CONFIG_HOME), then those of SAMREFINE_REGISTRY, then `registries`.

    Raises:
        RegistryError: a registry cannot be read, or an entry is none.
    """
    named = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    own = [OWN, *(path for path in (_configured(),) if path.exists())]
    paths = as_iterator(registries, "registries", "a list of paths")
    given = [as_path(path, "registries", RegistryError) for path in paths]
    found: dict[str, Weights] = {}
    for path in (*own, *named, *given):
        found |= _read(path)
    return found


def weights_of(name: str, known: Mapping[str, Weights]) -> Weights:
    """Return the weights of a name. Raises SettingsError where there are none."""
    if not isinstance(name, str) or name not in known:
        folded = {each.lower(): each for each in known}
        like = folded.get(name.lower(), name) if isinstance(name, str) else ""
        hint = did_you_mean(like, known)
        raise SettingsError(
            f"there are no weights {described(name)}, expected some that samrefine pull lists{hint}"
        )
    return known[name]


def _configured() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "samrefine" / "weights.json"


def _read(path: Path) -> dict[str, Weights]:
    """Read one registry file. Raises RegistryError."""
    content = read_json(path, RegistryError)
    entries = content.get(_WEIGHTS) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise RegistryError(f'{path}: expected {{"{_WEIGHTS}": {{NAME: {{"url": ...}}}}}}')
    try:
        return {name: _entry(name, entry) for name, entry in entries.items()}
    except RegistryError as error:
        raise RegistryError(f"{path}: {error}") from error


def _entry(name: str, entry: Any) -> Weights:
    """Return the weights that an entry describes. Raises RegistryError."""
    if not isinstance(entry, dict) or "url" not in entry:
        raise RegistryError(f'weights {name}: expected {{"url": ...}}, found {described(entry)}')
    known = _TEXTS | {"size"}
    for key, value in entry.items():
        if key not in known:
            raise RegistryError(f"weights {name}: unknown key {key!r}{did_you_mean(key, known)}")
        if key in _TEXTS and not isinstance(value, str):
            raise RegistryError(f"weights {name}: {key} is {described(value)}, expected a text")
    return Weights(name=name, **entry)
