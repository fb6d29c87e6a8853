"""A training run: so many steps, saved on the way, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

OnLine = Callable[[str], None]
"""Called with one line of text for whoever watches the run."""


class Trainer(Protocol):
    """The whole state of a training run."""

    step: int
    seconds: float

    def advance(self) -> float:
        """Take one optimiser step and return its loss."""

    def save(self, path: Path) -> None:
        """Write the whole state."""

    def load(self, path: Path) -> None:
        """Continue from a state that `save` wrote."""


def run(
    trainer: Trainer,
    steps: int,
    checkpoint: Path,
    *,
    name: str,
    resume: bool,
    report: OnLine,
    save_every: int,
) -> None:
    """Advance to `steps`, saving to `checkpoint` on the way; `resume` continues from it."""
    if resume and checkpoint.exists():
        trainer.load(checkpoint)
    # The mean loss of the last 50 steps is reported every 50 steps
    recent: list[float] = []
    while trainer.step < steps:
        recent.append(trainer.advance())
        if trainer.step % 50 == 0:
            loss = np.mean(recent[-50:])
            report(f"{name} step {trainer.step} loss {loss:.4f} {trainer.seconds:.0f} s")
        if trainer.step % save_every == 0 or trainer.step == steps:
            trainer.save(checkpoint)


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Save `state` to `path` through a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)
