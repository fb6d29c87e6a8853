"""SEPL (Chen et al. 2023, arXiv 2305.05803): a pseudo label picks and names SAM's masks.

Everything is computed from run lengths: the table of overlaps by prefix sums of the pseudo label
over runs, unions by adding runs up. No N x H x W stack exists at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.masks.masks import Coverage, Masks

Method = Literal["max_iou_imp2", "max_iou_imp", "max_iou", "argmax"]
METHODS: tuple[str, ...] = get_args(Method)
IGNORE = 255

Label = NDArray[np.uint8]
"""(H, W) uint8, 0 background, 255 no class"""


@dataclass(frozen=True)
class RefineSettings:
    """Which masks a class takes."""

    method: Method = "max_iou_imp2"
    """max_iou: masks mostly inside the class. max_iou_imp: and the pseudo label where no mask is.
    max_iou_imp2: and masks that cover most of the class. argmax: as max_iou_imp2, but a mask can
    only go to the class it overlaps most, as the paper's text has it"""
    min_inside: float = 0.5
    """a mask is mostly inside if more than this share of it lies on the class"""
    min_cover: float = 0.85
    """a mask covers the class if at least this share of the class lies in it"""
    max_area_ratio: float | None = None
    """the cover rule only for masks of at most this many times the class's area; None: any area"""
    num_classes: int | None = None
    """with background; a higher class in the pseudo label is an error. None: any class below 255"""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        for name in ("min_inside", "min_cover"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        if self.max_area_ratio is not None and not self.max_area_ratio > 0:
            raise SettingsError(f"max_area_ratio is {self.max_area_ratio}, expected above 0")
        if self.num_classes is not None and not 2 <= self.num_classes <= IGNORE:
            raise SettingsError(f"num_classes is {self.num_classes}, expected 2 to {IGNORE}")


def refine_labels(
    pseudo_label: Label,
    masks: Masks,
    *,
    method: Method = "max_iou_imp2",
    min_inside: float = 0.5,
    min_cover: float = 0.85,
    max_area_ratio: float | None = None,
    num_classes: int | None = None,
) -> Label:
    """Refine a pseudo label with the masks of the same photo.

    Classes are served in ascending order. A class takes the masks that fit it among those not
    taken yet; its new region is their union and, except in `max_iou`, its old pixels that no
    mask, taken ones aside, covers. Later classes overwrite earlier ones. Label pixels inside
    masks that no class takes become background.

    Args:
        pseudo_label: (H, W) uint8; 255 is no class and becomes background.
        masks: of the same photo.
        method, min_inside, min_cover, max_area_ratio, num_classes: see RefineSettings.

    Returns:
        (H, W) uint8.

    Raises:
        LabelError: another dtype or size than the masks, or a class out of range.
        SettingsError: a setting out of range.
    """
    settings = RefineSettings(method, min_inside, min_cover, max_area_ratio, num_classes)
    return refine(pseudo_label, masks, settings)


def refine(pseudo_label: Label, masks: Masks, settings: RefineSettings) -> Label:
    """`refine_labels` with its settings as one object."""
    classes = _check(pseudo_label, masks.size, settings)
    flat = np.ascontiguousarray(pseudo_label.T).reshape(-1)
    takes = _fitting(flat, classes, masks, settings)
    coverage = Coverage(masks)
    free = np.ones(len(masks), bool)
    cover = coverage.count(free)
    out = np.zeros_like(flat)
    for index, label in enumerate(classes):
        chosen = takes[:, index] & free
        union = coverage.count(chosen)
        region = union > 0
        if settings.method != "max_iou":
            region |= (flat == label) & (cover == 0)
        out[region] = label
        cover -= union
        free &= ~chosen
    return np.ascontiguousarray(out.reshape(masks.size[::-1]).T)


def overlaps(flat_label: Label, classes: NDArray[np.uint8], masks: Masks) -> NDArray[np.int64]:
    """Pixels that each mask shares with each class, (N, K) int64.

    Args:
        flat_label: (W * H,) uint8, column-major.
        classes: (K,) uint8.
        masks: N of them.
    """
    starts, ends, owner = masks.spans()
    table = np.zeros((len(masks), len(classes)), np.int64)
    before = np.zeros(len(flat_label) + 1, np.int64)
    for index, label in enumerate(classes):
        np.cumsum(flat_label == label, out=before[1:])
        inside = before[ends] - before[starts]
        table[:, index] = np.bincount(owner, inside, minlength=len(masks))
    return table


def _check(label: Label, size: tuple[int, int], settings: RefineSettings) -> NDArray[np.uint8]:
    """The classes (K,) present, ascending."""
    if label.dtype != np.uint8 or label.ndim != 2:
        raise LabelError(f"pseudo label is {label.shape} {label.dtype}, expected (H, W) uint8")
    if label.shape != size:
        raise LabelError(
            f"pseudo label is {label.shape[1]} x {label.shape[0]} pixels, its masks are "
            f"{size[1]} x {size[0]}"
        )
    classes = np.flatnonzero(np.bincount(label.reshape(-1), minlength=256)[:IGNORE])
    if settings.num_classes is not None and len(classes) and classes[-1] >= settings.num_classes:
        raise LabelError(
            f"pseudo label has class {classes[-1]}, expected 0 to {settings.num_classes - 1} or 255"
        )
    return classes[classes > 0].astype(np.uint8)


def _fitting(
    flat: Label, classes: NDArray[np.uint8], masks: Masks, settings: RefineSettings
) -> NDArray[np.bool_]:
    """Which masks fit which class, (N, K) bool."""
    table = overlaps(flat, classes, masks)
    areas = masks.areas[:, None]
    class_areas = np.bincount(flat, minlength=256)[classes]
    fits = table > settings.min_inside * areas
    if settings.method in ("max_iou_imp2", "argmax"):
        covers = table / class_areas >= settings.min_cover
        if settings.max_area_ratio is not None:
            covers &= areas <= settings.max_area_ratio * class_areas
        fits |= covers
    if settings.method == "argmax" and len(classes):
        fits &= np.arange(len(classes)) == table.argmax(axis=1)[:, None]
    return np.asarray(fits)
