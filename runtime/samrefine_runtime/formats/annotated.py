"""What formats annotate of a label: its connected regions, or its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.formats.polygons import Region, regions
from samrefine_runtime.labels import LabelMap


def annotated(
    label: LabelMap,
    num_classes: int,
    min_area: int = 1,
    objects: Sequence[Region] | None = None,
    *,
    are_apart: bool = False,
) -> list[Region]:
    """Return what is annotated of a label, by class and then from top left.

    Args:
        label: (H, W) uint8.
        num_classes: number of classes C with background.
        min_area: area in pixels below which something is omitted.
        objects: of the label, where they are known; regions then have their confidence.
        are_apart: whether objects are annotated, where they are known, instead of regions.

    Raises:
        LabelError: see `polygons.regions`.
    """
    found = list(regions(label, num_classes, min_area))
    if objects is None:
        return found
    if not are_apart:
        return _with_confidence(found, objects, label.shape)
    large = [each for each in objects if each.area >= min_area]
    return sorted(large, key=lambda each: (each.class_id, each.top, each.left))


def _with_confidence(
    found: Sequence[Region], objects: Sequence[Region], image_shape: tuple[int, ...]
) -> list[Region]:
    """Give regions the mean confidence over the pixels of their objects."""
    owner = owners(found, image_shape)
    total, weight = np.zeros(len(found)), np.full(len(found), 1e-9)
    for each in objects:
        number = int(view(owner, each)[each.mask][0])
        if number >= 0 and each.confidence is not None:
            total[number] += each.area * each.confidence
            weight[number] += each.area
    means = (total / weight).tolist()
    return [replace(each, confidence=mean) for each, mean in zip(found, means, strict=True)]


def owners(found: Sequence[Region], image_shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the index of each pixel's region, (H, W) int32, -1 for none."""
    owner = np.full(image_shape, -1, np.int32)
    for number, region in enumerate(found):
        view(owner, region)[region.mask] = number
    return owner


def view(array: NDArray[Any], region: Region) -> NDArray[Any]:
    """Return the part of an array (H, W) in the box of a region."""
    height, width = region.mask.shape
    return array[region.top : region.top + height, region.left : region.left + width]
