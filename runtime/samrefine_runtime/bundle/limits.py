"""How much of a bundle is read before anything is known of it, and how to raise that.

Bundles are passed on by strangers: a sparse file of any size costs them nothing, and reading it
would take hours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from samrefine_runtime.errors import SettingsError, printable

VARIABLE = "SAMREFINE_BUNDLE_LIMITS"
"""Environment variable: the factor by which all limits are raised."""

HINT = f"{VARIABLE}=2 in the environment doubles all limits"
"""How messages say what to do."""


@dataclass(frozen=True)
class Limits:
    """Limits far above what bundles need; a bundle of SAM's largest model, ViT-H, is named."""

    manifest_bytes: int = 4 << 20
    """Size of manifest.json; 20 KB."""
    graph_bytes: int = (2 << 30) - 1
    """Size of an .onnx file; protocol buffers themselves end here."""
    bundle_bytes: int = 64 << 30
    """Size of all files together; 2.7 GB."""
    graph_fields: int = 1_000_000
    """Fields of messages in an .onnx file, which are read one by one; 20,000."""

    @classmethod
    def current(cls) -> Limits:
        """Return the limits that apply now. Raises SettingsError for a factor that is none."""
        text = os.environ.get(VARIABLE, "1")
        is_short = text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_FACTOR))
        if not is_short or not 1 <= int(text) <= _LARGEST_FACTOR:
            raise SettingsError(
                f"{VARIABLE} is {printable(text)}, expected a whole number from 1 to "
                f"{_LARGEST_FACTOR}"
            )
        return cls(*(limit * int(text) for limit in vars(cls()).values()))


_LARGEST_FACTOR = 1000
"""At which limits are none any more."""
