"""What a run makes: the outputs of one image, or a file that spans all images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samrefine_runtime.runs.fingerprint import Glance, glance

IMAGE, SPANNING = "image/", "all/"
"""How the keys of images, and those of files that span all images, begin in the journal."""

Glances = Mapping[str, Glance | None]
"""Size and time of the files of a task by role, None for one that cannot be looked at."""


@dataclass(frozen=True)
class Task:
    """One image of a run, or one file that spans all images."""

    key: str
    """Identity in the journal: IMAGE and an image's id, or SPANNING and a name."""
    label: str
    """How messages call it, such as the path of the image."""
    kinds: tuple[str, ...]
    """Names of the outputs that are wanted, such as formats."""
    derived: tuple[str, ...] = ()
    """Those of them that can be made from the others, without the work on the image."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What the outputs are made from, by role: the image, its pseudo label, its masks."""
    given: Any = None
    """What else they are made from, as a JSON value: image-level labels."""

    def glances(self) -> Glances:
        """Look at the files."""
        return {role: _look(path) for role, path in self.files.items()}


def _look(path: Path) -> Glance | None:
    try:
        return glance(path)
    except OSError:
        return None
