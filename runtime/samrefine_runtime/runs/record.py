"""What decides the results of a run: its command, its bundle, its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import printable

_SHOWN_DIGITS = 12
"""Digits of a hash that messages show; enough to see that two differ."""

_SHOWN_LENGTH = 80
"""Characters of a setting that messages show."""

_SHOWN_CHANGES = 4
"""Changed settings that a message names."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that decides what a run makes of an image, but for the image itself."""

    command: str
    """Such as "label"."""
    bundle: str | None
    """Identity of the bundle (`bundle_identity`), None in a run without one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every setting that changes the result, as JSON values."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON holds it."""
        return {"command": self.command, "bundle": self.bundle, "settings": dict(self.settings)}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> RunRecord:
        """Read the value of `to_json`; what is missing or of another type differs from any run."""
        settings = value.get("settings")
        return cls(
            str(value.get("command")),
            value.get("bundle"),
            settings if isinstance(settings, dict) else {},
        )

    def changes_to(self, other: RunRecord) -> list[str]:
        """Describe what differs in another record, one phrase each; nothing where all is equal."""
        found = []
        if self.command != other.command:
            found.append(f"command {self.command}, now {other.command}")
        if self.bundle != other.bundle:
            found.append(f"bundle {_short(self.bundle)}, now {_short(other.bundle)}")
        for name in sorted({*self.settings, *other.settings}):
            before, now = self.settings.get(name), other.settings.get(name)
            if before != now:
                found.append(f"{name} {_brief(before)}, now {_brief(now)}")
        return [printable(each) for each in found]


def describe(changes: list[str]) -> str:
    """Join the phrases of `RunRecord.changes_to`, the first few in full."""
    rest = len(changes) - _SHOWN_CHANGES
    return "; ".join(changes[:_SHOWN_CHANGES]) + (f"; and {rest} more" if rest > 0 else "")


def bundle_identity(bundle: Bundle) -> str:
    """Compute the hex sha256 of a bundle's manifest, which names the hash of every file."""
    return hashlib.sha256(json.dumps(bundle.manifest, sort_keys=True).encode()).hexdigest()


def _brief(value: Any) -> str:
    """Return a setting as JSON, cut where it is long, as a list of classes is."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _short(identity: object) -> str:
    return "none" if identity is None else str(identity)[:_SHOWN_DIGITS]
