"""SEPL (Chen et al. 2023, arXiv 2305.05803): a pseudo label picks and names SAM's masks.

Everything is computed from run lengths: the table of overlaps by prefix sums of the pseudo label
over runs, unions by adding runs up. No N x H x W stack exists at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.labels import IGNORE, MAX_CLASS, LabelMap, check_label
from samrefine_runtime.masks.masks import Coverage, Masks
from samrefine_runtime.settings import Settings, choice, real, settings_of, whole

Method = Literal["max_iou_imp2", "max_iou_imp", "max_iou", "argmax"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class RefineSettings(Settings):
    """Which masks a class takes."""

    method: Method = choice("max_iou_imp2", METHODS, help="How classes take masks.")
    """max_iou: masks mostly inside the class. max_iou_imp: and the pseudo label where no mask is.
    max_iou_imp2: and masks that cover most of the class. argmax: as max_iou_imp2, but a mask can
    only go to the class it overlaps most, as the paper's text has it."""
    min_inside: float = real(0.5, 0, 1, help="Minimum fraction of a mask inside the class.")
    """A mask is mostly inside if more than this fraction of it lies on the class."""
    min_cover: float = real(0.85, 0, 1, help="Minimum fraction of the class inside a mask.")
    """A mask covers the class if at least this fraction of the class lies in it."""
    max_area_ratio: float | None = real(
        None,
        0,
        is_open=True,
        help="Let a mask cover a class only up to this many times the class's area.",
    )
    """The cover rule only for masks of at most this many times the class's area; None: any."""
    num_classes: int | None = whole(
        None, 2, MAX_CLASS + 1, help="Classes with background; a higher class is an error."
    )
    """Classes with background; a higher class in the pseudo label is an error. None: any class."""


def refine_labels(pseudo_label: LabelMap, masks: Masks, **settings: Any) -> LabelMap:
    """Refine a pseudo label with the masks of the same image.

    Classes are served in ascending order. A class takes the masks that fit it among those not
    taken yet; its new region is their union and, except in `max_iou`, its old pixels that no
    mask, taken ones aside, covers. Later classes overwrite earlier ones. Label pixels inside
    masks that no class takes become background.

    Args:
        pseudo_label: (H, W) uint8; 255 is no class and becomes background.
        masks: of the same image.
        settings: any field of RefineSettings: method, min_inside, min_cover, max_area_ratio,
            num_classes.

    Returns:
        (H, W) uint8.

    Raises:
        LabelError: another dtype or shape than the masks, or a class out of range.
        SettingsError: an unknown setting, or one out of range.
    """
    return refine(pseudo_label, masks, settings_of(RefineSettings, settings))


def refine(pseudo_label: LabelMap, masks: Masks, settings: RefineSettings) -> LabelMap:
    """Refine a pseudo label as `refine_labels` does, with its settings as one object."""
    classes = _check(pseudo_label, masks.image_shape, settings)
    # Run lengths are column-major: so are all flat arrays here
    flat = np.ascontiguousarray(pseudo_label.T).reshape(-1)
    fits = _fitting(flat, classes, masks, settings)
    coverage = Coverage(masks)
    is_free = np.ones(len(masks), bool)
    # cover (W * H,): how many masks that no class has taken lie over each pixel
    cover = coverage.count(is_free)
    refined = np.zeros_like(flat)
    for index, label in enumerate(classes):
        # Take the free masks that fit the class
        chosen = fits[:, index] & is_free
        union = coverage.count(chosen)
        region = union > 0
        # Trust the pseudo label where SAM has no mask
        if settings.method != "max_iou":
            region |= (flat == label) & (cover == 0)
        refined[region] = label
        # Masks taken by this class count as absent for the classes after it
        cover -= union
        is_free &= ~chosen
    return np.ascontiguousarray(refined.reshape(masks.image_shape[::-1]).T)


def overlaps(flat_label: LabelMap, classes: NDArray[np.uint8], masks: Masks) -> NDArray[np.int64]:
    """Count the pixels that each mask shares with each class, (N, K) int64.

    Args:
        flat_label: (W * H,) uint8, column-major.
        classes: (K,) uint8.
        masks: N of them.
    """
    starts, ends, owner = masks.spans()
    table = np.zeros((len(masks), len(classes)), np.int64)
    # before (W * H + 1,): pixels of the class before each position, so that a run's share of the
    # class is one subtraction
    before = np.zeros(len(flat_label) + 1, np.int64)
    for index, label in enumerate(classes):
        np.cumsum(flat_label == label, out=before[1:])
        inside = before[ends] - before[starts]
        table[:, index] = np.bincount(owner, inside, minlength=len(masks))
    return table


def _check(
    label: LabelMap, image_shape: tuple[int, int], settings: RefineSettings
) -> NDArray[np.uint8]:
    """Check the pseudo label and return the classes (K,) in it, ascending."""
    if check_label(label, "pseudo label").shape != image_shape:
        raise LabelError(
            f"pseudo label is {label.shape[1]} x {label.shape[0]} pixels, its masks are "
            f"{image_shape[1]} x {image_shape[0]}"
        )
    classes = np.flatnonzero(np.bincount(label.reshape(-1), minlength=256)[:IGNORE])
    if settings.num_classes is not None and len(classes) and classes[-1] >= settings.num_classes:
        raise LabelError(
            f"pseudo label has class {classes[-1]}, expected 0 to {settings.num_classes - 1} or 255"
        )
    return classes[classes > 0].astype(np.uint8)


def _fitting(
    flat: LabelMap, classes: NDArray[np.uint8], masks: Masks, settings: RefineSettings
) -> NDArray[np.bool_]:
    """Decide which masks fit which class, (N, K) bool."""
    # table (N, K): pixels that mask n shares with class k
    table = overlaps(flat, classes, masks)
    areas = masks.areas[:, None]
    class_areas = np.bincount(flat, minlength=256)[classes]
    # Mostly inside the class
    fits = table > settings.min_inside * areas
    if settings.method in ("max_iou_imp2", "argmax"):
        # Or covering most of it
        covers = table / class_areas >= settings.min_cover
        if settings.max_area_ratio is not None:
            covers &= areas <= settings.max_area_ratio * class_areas
        fits |= covers
    # Only the class that the mask overlaps most
    if settings.method == "argmax" and len(classes):
        fits &= np.arange(len(classes)) == table.argmax(axis=1)[:, None]
    return np.asarray(fits)
