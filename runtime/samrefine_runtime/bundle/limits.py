"""How much of a bundle is read before anything is known of it, and how to raise that.

Bundles are passed on by strangers: a sparse file of any size costs them nothing, and reading it
would take hours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from samrefine_runtime.checks import described
from samrefine_runtime.errors import SettingsError

VARIABLE = "SAMREFINE_BUNDLE_LIMITS"
"""Environment variable: the factor by which all limits are raised."""

HINT = f"{VARIABLE}=2 in the environment doubles all limits"
"""How messages say what to do."""

_LARGEST_FACTOR = 1000
"""At which limits are none any more."""


@dataclass(frozen=True)
class Limits:
    """Limits far above what bundles need; with each stands what the bundle of ViT-B has."""

    manifest_bytes: int = 4 << 20
    """Size of manifest.json; 10 KB."""
    graph_bytes: int = (2 << 30) - 1
    """Size of an .onnx file, at which protocol buffers themselves end; 0.4 GB."""
    bundle_bytes: int = 64 << 30
    """Size of all files together; 0.4 GB."""
    graph_fields: int = 1_000_000
    """Fields of messages in an .onnx file, which are read one by one; 7,000."""

    @classmethod
    def current(cls) -> Limits:
        """Return the limits that apply now. Raises SettingsError for a factor that is none."""
        text = os.environ.get(VARIABLE, "1")
        is_short = text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_FACTOR))
        if not is_short or not 1 <= int(text) <= _LARGEST_FACTOR:
            raise SettingsError(
                f"{VARIABLE} is {described(text)}, expected a whole number from 1 to "
                f"{_LARGEST_FACTOR}"
            )
        return cls(*(limit * int(text) for limit in vars(cls()).values()))
