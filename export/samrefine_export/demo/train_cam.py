"""Trains the demo classifier from image-level labels only: seeded and resumable."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from samrefine_export.demo.model import build_demo_classifier
from samrefine_export.demo.pool import Shard
from samrefine_export.demo.prompts import crop
from samrefine_export.demo.run import OnLine, run, save_atomically
from samrefine_export.demo.scenes import CLASSES
from samrefine_export.demo.shapes import Rng


@dataclass(frozen=True)
class CamConfig:
    """Settings that determine a training run."""

    seed: int = 0
    cycles: tuple[int, ...] = (3000, 2500, 700)
    """Steps of each cycle of the learning rate."""
    sides: tuple[int, ...] = (128, 128, 192)
    """Side of the square crops in each cycle, pixels."""
    images: int = 16
    rate: float = 2e-3
    warmup: int = 100

    @property
    def steps(self) -> int:
        """Steps in all."""
        return sum(self.cycles)

    def cycle_at(self, step: int) -> tuple[int, float]:
        """Return the cycle that `step` is in, and its progress there, 0 to 1."""
        for cycle, length in enumerate(self.cycles):
            if step < length:
                return cycle, step / length
            step -= length
        return len(self.cycles) - 1, 1.0

    def rate_at(self, step: int) -> float:
        """Return the learning rate: warm-up, then half cosines to 2%, each from half the last."""
        cycle, done = self.cycle_at(step)
        fall = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done))
        return float(self.rate / 2**cycle * min(1.0, (step + 1) / self.warmup) * fall)


def draw_images(
    rng: Rng, data: Shard, images: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw crops (B, 3, side, side) normalised, and the classes each shows (B, C), 0 or 1."""
    views, labels = [], []
    for index in rng.integers(len(data.image), size=images):
        image, parts = crop(rng, data.image[index], data.parts[index], side)
        seen = data.region_class[index][data.part_region[index]][parts[parts >= 0]]
        # A class counts as visible from 1% of the crop
        counts = np.bincount(seen, minlength=len(CLASSES) + 1)[1:]
        views.append(image)
        labels.append(counts > 0.01 * parts.size)
    return np.stack(views), np.stack(labels).astype(np.float32)


class CamTrainer:
    """Classifier, running average, optimiser and step of a run; saved and resumed as one file."""

    def __init__(self, config: CamConfig, data: Shard) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data = config, data
        self.model = build_demo_classifier()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.rate, weight_decay=0.05
        )
        self.step, self.seconds = 0, 0.0

    def advance(self) -> float:
        """Take one optimiser step and return its loss: a function of seed, step and weights."""
        # Draw the batch of this step
        started = time.perf_counter()
        rng = np.random.default_rng((self.config.seed, self.step, 1))
        side = self.config.sides[self.config.cycle_at(self.step)[0]]
        views, labels = draw_images(rng, self.data, self.config.images, side)
        # Step on the image-level loss
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.step)
        self.model.train()
        image = torch.from_numpy(views).contiguous(memory_format=torch.channels_last)
        loss = F.binary_cross_entropy_with_logits(self.model(image)[1], torch.from_numpy(labels))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        self._update_average()
        self.seconds += time.perf_counter() - started
        return float(loss.detach())

    def _update_average(self) -> None:
        """Move the running average towards the weights, faster at the start."""
        keep = min(0.995, self.step / (9 + self.step))
        fresh = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(fresh[name], 1 - keep)

    def save(self, path: Path) -> None:
        """Write the whole state, replacing `path` in one go."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict(),
                 "optimiser": self.optimiser.state_dict(), "step": self.step,
                 "seconds": self.seconds}  # fmt: skip
        save_atomically(state, path)

    def load(self, path: Path) -> None:
        """Continue from a state that `save` wrote."""
        state = torch.load(path, weights_only=True)
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]


def train_cam(
    config: CamConfig,
    data: Shard,
    checkpoint: Path,
    *,
    resume: bool,
    report: OnLine,
    save_every: int = 250,
) -> CamTrainer:
    """Run to `config.steps`, saving to `checkpoint` on the way; `resume` continues from it."""
    trainer = CamTrainer(config, data)
    run(
        trainer,
        config.steps,
        checkpoint,
        name="cam",
        resume=resume,
        report=report,
        save_every=save_every,
    )
    return trainer
