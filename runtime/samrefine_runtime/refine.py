"""SEPL (Chen et al. 2023, arXiv 2305.05803): a pseudo label picks and names SAM's masks.

Everything is computed from run lengths: the table of overlaps by prefix sums of the pseudo label
over runs, unions by adding runs up. No N x H x W stack exists at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import BundleLike, LabelLike, as_bundle, as_label
from samrefine_runtime.checks import described
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.labels import (
    IGNORE,
    MAX_CLASS,
    VOC_CLASSES,
    LabelMap,
    check_label,
    count_values,
)
from samrefine_runtime.masks.masks import Masks, Spans, strips
from samrefine_runtime.settings import Settings, choice, real, settings_of, whole
from samrefine_runtime.trust import CAUTIOUS, is_trusted

Method = Literal["max_iou_imp2", "max_iou_imp", "max_iou", "argmax"]
"""Rules by which a class takes masks, see `RefineSettings.method`."""

METHODS: tuple[str, ...] = get_args(Method)

_MOST_AREAS = 1_000_000_000
"""Areas of a class in one mask: more than any image has pixels."""


@dataclass(frozen=True)
class RefineSettings(Settings):
    """Settings that decide which masks a class takes."""

    method: Method = choice("max_iou_imp2", METHODS, help="How classes take masks.")
    """How classes take masks. max_iou: masks mostly inside the class. max_iou_imp: also the
    pseudo label where no mask is. max_iou_imp2: also masks that cover most of the class. argmax: as
    max_iou_imp2, but a mask can only go to the class it overlaps most, as in the paper's text."""
    min_inside: float = real(0.5, 0, 1, help="Minimum fraction of a mask inside the class.")
    """A mask is mostly inside a class if more than this fraction of it, 0 to 1, is on the class."""
    min_cover: float = real(0.85, 0, 1, help="Minimum fraction of the class inside a mask.")
    """A mask covers a class if at least this fraction of the class, 0 to 1, is inside the mask."""
    max_area_ratio: float | None = real(
        None,
        0,
        _MOST_AREAS,
        is_open=True,
        help="Let a mask cover a class only up to this many times the class's area.  "
        "[default: no limit]",
    )
    """Area of a mask, in areas of the class, up to which it can cover the class; None: any."""
    min_trust: float = real(
        0.0,
        0,
        1,
        help="Minimum trust in an image's masks; below it the pseudo label stays.  "
        f"[default: {CAUTIOUS}]",
    )
    """How sure SAM must be of what the pseudo label marks (`trust.image_trust`); in images of
    less, the pseudo label stays as it is. 0 refines every image, as the paper does."""
    num_classes: int | None = whole(
        None,
        2,
        MAX_CLASS + 1,
        help="Classes with background; a higher class is an error.  "
        f"[default: those with a name, else {len(VOC_CLASSES)}]",
        changes_result=False,
    )
    """Number of classes with background; a higher class in the pseudo label is an error. None: any
    class."""

    @classmethod
    def of(cls, bundle: BundleLike | None, **given: Any) -> RefineSettings:
        """Combine given settings with the bundle's defaults, then cautious ones.

        A model may not understand the images it is used on; the paper's own settings, which are
        this class's defaults, take every mask as it is.

        Args:
            bundle: where the masks come from, a folder or "demo" too; None if that is not known.
            given: any field.

        Raises:
            SettingsError: an unknown name, or a value out of range.
        """
        defaults = {} if bundle is None else as_bundle(bundle).defaults
        return settings_of(cls, given, {"min_trust": CAUTIOUS, **defaults})


def refine_labels(pseudo_label: LabelLike, masks: Masks, **settings: Any) -> LabelMap:
    """Refine a pseudo label with the masks of the same image.

    Classes are processed in ascending order. A class takes the masks that fit it and are not taken
    yet; its new region is their union and, except in `max_iou`, those of its old pixels that no
    mask covers, masks taken by earlier classes not counted. Later classes overwrite earlier ones.
    Label pixels inside masks that no class takes become background.

    Args:
        pseudo_label: (H, W) uint8 or a label PNG; 255 is no class and becomes background.
        masks: masks of the same image; `Masks.from_dense` makes them of (H, W) bool arrays.
        settings: any field of RefineSettings.

    Returns:
        The refined label (H, W) uint8, 0 or a class of the pseudo label.

    Raises:
        LabelError: another dtype, another shape than the masks, or a class out of range.
        SettingsError: no Masks, an unknown setting, or one out of range.
    """
    if not isinstance(masks, Masks):
        raise SettingsError(
            f"masks is {described(masks)}, expected Masks; Masks.from_dense makes them of (H, W) "
            "bool arrays"
        )
    label = as_label(pseudo_label, "pseudo label")
    return refine(label, masks, settings_of(RefineSettings, settings))


def refine(pseudo_label: LabelMap, masks: Masks, settings: RefineSettings) -> LabelMap:
    """Refine a pseudo label as `refine_labels` does, with its settings as one object."""
    return refine_and_choose(pseudo_label, masks, settings)[0]


def refine_and_choose(
    pseudo_label: LabelMap, masks: Masks, settings: RefineSettings
) -> tuple[LabelMap, NDArray[np.uint8]]:
    """Refine a pseudo label, and say which masks made it.

    Args:
        pseudo_label: (H, W) uint8.
        masks: N of the same image.
        settings: see `refine_labels`, which raises the same.

    Returns:
        The refined label (H, W) uint8, and the class that took each mask (N,) uint8, 0 for none.
    """
    classes = _check(pseudo_label, masks.image_shape, settings)
    # Keep the label where SAM does not understand the image
    if not is_trusted(pseudo_label, masks, settings.min_trust):
        kept = np.where(pseudo_label == IGNORE, np.uint8(0), pseudo_label)
        return kept, np.zeros(len(masks), np.uint8)
    # Run lengths are column-major: so are all flat arrays here
    flat = np.ascontiguousarray(pseudo_label.T).reshape(-1)
    taken = _taken(_fitting(flat, classes, masks, settings))
    spans = masks.spans()
    refined = np.zeros_like(flat)
    for strip in strips(len(flat)):
        _paint(refined[strip], flat[strip], classes, taken, spans.within(strip), settings)
    label = np.ascontiguousarray(refined.reshape(masks.image_shape[::-1]).T)
    # At most one class takes a mask
    return label, np.asarray((taken * classes).sum(axis=1), np.uint8)


def _taken(fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Decide which masks each class takes, (N, K) bool: those that fit and are not taken yet."""
    return np.asarray(fits & (np.cumsum(fits, axis=1) == 1))


def _paint(
    refined: LabelMap,
    flat: LabelMap,
    classes: NDArray[np.uint8],
    taken: NDArray[np.bool_],
    spans: Spans,
    settings: RefineSettings,
) -> None:
    """Write the classes into a part of the refined label.

    Args:
        refined: (P,) uint8, background; the part that is written.
        flat: (P,) uint8, the same part of the pseudo label, column-major.
        classes: (K,) uint8, ascending.
        taken: (N, K) bool, the masks that each class takes.
        spans: of the N masks, inside the part.
        settings: see `refine`.
    """
    # cover (P,): how many masks that no class has taken lie over each pixel
    cover = spans.cover(len(flat))
    for index, label in enumerate(classes):
        union = spans.of(taken[:, index]).cover(len(flat))
        region = union > 0
        # Trust the pseudo label where SAM has no mask
        if settings.method != "max_iou":
            region |= (flat == label) & (cover == 0)
        refined[region] = label
        # Masks taken by this class count as absent for the classes after it
        cover -= union


def overlaps(flat_label: LabelMap, classes: NDArray[np.uint8], masks: Masks) -> NDArray[np.int64]:
    """Count the pixels that each mask shares with each class, (N, K) int64.

    Args:
        flat_label: (W * H,) uint8, column-major.
        classes: (K,) uint8.
        masks: N of them.
    """
    spans = masks.spans()
    table = np.zeros((len(masks), len(classes)), np.int64)
    for strip in strips(len(flat_label)):
        starts, ends, owner = spans.within(strip)
        part = flat_label[strip]
        # before (P + 1,): pixels of the class before each position, so that the pixels of a run on
        # the class are one subtraction
        before = np.zeros(len(part) + 1, np.int64)
        for index, label in enumerate(classes):
            np.cumsum(part == label, out=before[1:])
            inside = before[ends] - before[starts]
            table[:, index] += np.bincount(owner, inside, minlength=len(masks)).astype(np.int64)
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
    classes = np.flatnonzero(count_values(label)[:IGNORE])
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
    class_areas = count_values(flat)[classes]
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
