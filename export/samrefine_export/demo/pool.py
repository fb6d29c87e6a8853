"""A pool of scenes on disk, so that training does not wait for painting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samrefine_export.demo.scenes import make_scene

SIDE = 256
"""Of the square scenes, pixels."""
SHARD = 250
"""Scenes per file."""
_IDS = 256
"""Rows reserved for ids of a scene's parts and regions, which are uint8."""
HELD_OUT = 10_000_000
"""Scenes of this seed and above are never trained on."""


@dataclass(frozen=True)
class Shard:
    """`SHARD` square scenes as arrays."""

    image: NDArray[np.uint8]
    """(N, 256, 256, 3) RGB."""
    parts: NDArray[np.uint8]
    """(N, 256, 256) part ids."""
    part_region: NDArray[np.uint8]
    """(N, 256) region of each part."""
    region_class: NDArray[np.uint8]
    """(N, 256) class of each region."""


def _paint_shard(index: int) -> Shard:
    images, parts = [], []
    part_region = np.zeros((SHARD, _IDS), np.uint8)
    region_class = np.zeros((SHARD, _IDS), np.uint8)
    for k in range(SHARD):
        scene = make_scene(index * SHARD + k, SIDE)
        images.append(scene.image)
        parts.append(scene.parts.astype(np.uint8))
        part_region[k, : len(scene.part_region)] = scene.part_region
        region_class[k, : len(scene.region_class)] = scene.region_class
    return Shard(np.array(images), np.array(parts), part_region, region_class)


def shard(folder: Path, index: int) -> Shard:
    """Return the scenes of seeds `index * SHARD` onwards, painted once and kept in `folder`."""
    path = folder / f"scenes{index:04d}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = _paint_shard(index)
        part = path.with_suffix(".part.npz")
        np.savez(part, **vars(fresh))
        # Renamed at the end, so that an interrupted run leaves no damaged shard
        part.replace(path)
    with np.load(path) as stored:
        return Shard(**{name: stored[name] for name in stored.files})


def pool(folder: Path, shards: int) -> Shard:
    """Return the first `shards` shards as one."""
    pieces = [shard(folder, index) for index in range(shards)]
    return Shard(*(np.concatenate([getattr(p, n) for p in pieces]) for n in Shard.__annotations__))
