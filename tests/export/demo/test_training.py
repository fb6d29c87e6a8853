"""Training of the demo networks: samples, steps, resuming."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from samrefine_export.demo.pool import SIDE, Shard
from samrefine_export.demo.prompts import draw_batch
from samrefine_export.demo.scenes import CLASSES, make_scene
from samrefine_export.demo.train_cam import CamConfig, draw_images, train_cam
from samrefine_export.demo.train_sam import (
    SamConfig,
    SamTrainer,
    Stage,
    resize,
    train_sam,
    train_step,
)

CONFIG = SamConfig(
    stages=(
        Stage(2, 32, 2, 2),
        Stage(2, 48, 1, 2, settle=0.5),
        Stage(2, 48, 1, 2, restart=True),
    ),
    warmup=1,
)
CAM_CONFIG = CamConfig(cycles=(2, 2), sides=(32, 48), images=2, warmup=1)


@pytest.fixture(scope="module")
def data() -> Shard:
    scenes = [make_scene(seed, SIDE) for seed in range(3)]
    part_region, region_class = np.zeros((3, 256), np.uint8), np.zeros((3, 256), np.uint8)
    for k, scene in enumerate(scenes):
        part_region[k, : len(scene.part_region)] = scene.part_region
        region_class[k, : len(scene.region_class)] = scene.region_class
    images = np.stack([s.image for s in scenes])
    parts = np.stack([s.parts.astype(np.uint8) for s in scenes])
    return Shard(images, parts, part_region, region_class)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_a_point_lies_in_both_of_its_targets(data: Shard) -> None:
    for seed in range(10):
        batch = draw_batch(np.random.default_rng(seed), data, 2, 6, 64)
        assert batch.image.shape == (2, 3, 64, 64)
        assert batch.whole.shape == batch.part.shape == (2, 6, 32, 32)
        cells = ((batch.points + 0.5) // 2).astype(int)
        for b, p in np.ndindex(2, 6):
            x, y = cells[b, p]
            assert batch.whole[b, p, y, x]
            assert batch.part[b, p, y, x]
            assert not (batch.part[b, p] & ~batch.whole[b, p]).any()
            np.testing.assert_array_equal(
                batch.whole[b, p], batch.region_map[b] == batch.region_map[b, y, x]
            )


def test_image_labels_name_classes_in_view(data: Shard) -> None:
    views, labels = draw_images(np.random.default_rng(0), data, 5, 32)
    assert views.shape == (5, 3, 32, 32)
    assert labels.shape == (5, len(CLASSES))
    present = {int(c) for row in data.region_class for c in row if c}
    assert {int(c) + 1 for c in np.flatnonzero(labels.any(0))} <= present


def test_steps_on_one_batch_lower_its_loss(data: Shard) -> None:
    trainer = SamTrainer(CONFIG, data)
    resize(trainer.sam, 64)
    batch = draw_batch(np.random.default_rng(1), data, 2, 4, 64)
    losses = []
    for _ in range(12):
        loss = train_step(trainer.sam, trainer.hints, batch, np.random.default_rng(3))
        trainer.optimiser.zero_grad()
        loss.backward()
        trainer.optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("steps", [3, 4, 5])
def test_resumed_sam_equals_an_uninterrupted_one(data: Shard, tmp_path: Path, steps: int) -> None:
    straight = train_sam(CONFIG, data, tmp_path / "a.pt", resume=False, report=str)
    first = SamTrainer(CONFIG, data)
    for _ in range(steps):
        first.advance()
    first.save(tmp_path / "b.pt")
    resumed = train_sam(CONFIG, data, tmp_path / "b.pt", resume=True, report=str)
    assert resumed.step == straight.step == 6
    assert resumed.scenes == straight.scenes
    assert same_weights(resumed.sam, straight.sam)
    assert same_weights(resumed.average, straight.average)


def test_resumed_classifier_equals_an_uninterrupted_one(data: Shard, tmp_path: Path) -> None:
    straight = train_cam(CAM_CONFIG, data, tmp_path / "a.pt", resume=False, report=str)
    train_cam(CAM_CONFIG, data, tmp_path / "b.pt", resume=False, report=str, save_every=2)
    halfway = train_cam(CAM_CONFIG, data, tmp_path / "b.pt", resume=True, report=str)
    assert halfway.step == straight.step == 4
    assert same_weights(halfway.average, straight.average)


def test_a_restart_keeps_only_the_weights(data: Shard) -> None:
    trainer = SamTrainer(CONFIG, data)
    for _ in range(4):
        trainer.advance()
    weights, hints = copy.deepcopy(trainer.sam), trainer.hints
    trainer.restart()
    assert same_weights(trainer.sam, weights) and same_weights(trainer.average, weights)
    assert trainer.hints is not hints
    assert not trainer.optimiser.state


def test_the_rate_rises_holds_and_falls() -> None:
    config = SamConfig(
        stages=(Stage(100, 32, 1, 1), Stage(50, 64, 1, 1, (1.0, 0.02))), warmup=10, rate=1.0
    )
    rates = [config.rate_at(step) for step in range(150)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:100] == [1.0] * 90
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] < 0.03
    again = replace(config, stages=(*config.stages, Stage(50, 64, 1, 1, restart=True)))
    rates = [again.rate_at(step) for step in range(150, 200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:] == [1.0] * 40
