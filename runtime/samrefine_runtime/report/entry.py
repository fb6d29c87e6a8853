"""An image of the report: a small picture, maps of its labels and masks, and figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.cam import CamResult
from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.jsonfile import read_json, write_json
from samrefine_runtime.image import RgbImage, row_strips
from samrefine_runtime.labels import IGNORE, LabelMap, count_values
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.report.confidence import image_confidence
from samrefine_runtime.report.maps import EncodedMap, cam_map, label_map, mask_map
from samrefine_runtime.report.pictures import PICTURE_SIDE, image_picture
from samrefine_runtime.results import LabelResult

LAYERS = ("cam", "masks", "pseudo_label", "label", "ground_truth")
"""Names of the maps, in the page's order."""

COLUMNS = (
    "class",
    "before",
    "after",
    "truth",
    "pred_before",
    "hit_before",
    "pred_after",
    "hit_after",
)
"""Columns of `ReportEntry.pixels`: a class, and counts of its pixels.

`before` and `after` count the whole pseudo label and refined label. The others count where the
ground truth is not 255, and are 0 without one: `truth` in the ground truth, `pred_` in a label,
`hit_` where that label and the ground truth agree.
"""

VALUES = 256
"""Number of values of a label map."""

Pixels = NDArray[np.int64]
"""(K, 8) int64, one row per class; see COLUMNS."""

VERSION = 3
"""Of the JSON layout. An entry of another version is not read: it is made anew from the label."""

IDENTITY_DIGITS = 16
"""Of 4 bits: enough that no two of a billion labels share them."""

_SCORE_DIGITS = 3
"""Digits after the point of a predicted IoU."""


@dataclass(frozen=True)
class ReportEntry:
    """What the report shows of an image."""

    image_id: str
    image_shape: tuple[int, int]
    """(H, W) of the image, pixels."""
    picture: str
    """The image, small, as a data URI."""
    maps: Mapping[str, EncodedMap]
    """Maps by name; the names are some of LAYERS."""
    pixels: Pixels
    """One row per class that occurs, background included."""
    scored: bool
    """Whether there is ground truth."""
    changed: float | None = None
    """Fraction of the pixels that the refinement changed; None if only the label is known."""
    confidence: float | None = None
    """How sure the models are (`image_confidence`), 0 to 1; None if only the label is known."""
    mask_scores: tuple[float, ...] | None = None
    """Predicted IoU of each mask, 0 to 1; None if only the label is known."""
    seconds: float | None = None
    """Seconds of all stages; None if only the label is known."""
    probabilities: Mapping[int, float] = field(default_factory=dict)
    """The classifier's probability, 0 to 1, by class assumed to be in the image."""

    @classmethod
    def of(
        cls,
        image_id: str,
        image: RgbImage,
        result: LabelResult,
        ground_truth: LabelMap | None = None,
        *,
        side: int = PICTURE_SIDE,
    ) -> ReportEntry:
        """Make the entry of an image just labelled or refined.

        Args:
            image_id: file name of the image without its suffix.
            image: (H, W, 3) uint8 RGB.
            result: of that image.
            ground_truth: (H, W) uint8, 255 for no class.
            side: longer side of the pictures, pixels; see `picture_side`.

        Raises:
            LabelError: the ground truth has another shape than the image.
        """
        cam, pseudo_label, masks = result.cam, result.pseudo_label, result.masks
        maps = {"masks": mask_map(masks), "pseudo_label": label_map(pseudo_label)}
        if ground_truth is not None:
            check_ground_truth(ground_truth, image)
            maps["ground_truth"] = label_map(ground_truth)
        return cls(
            image_id=image_id,
            image_shape=result.label.shape,
            picture=image_picture(image, side),
            maps={**_cam_map(cam), **maps, "label": label_map(result.label)},
            pixels=count_pixels(pseudo_label, result.label, ground_truth),
            scored=ground_truth is not None,
            changed=result.changed,
            confidence=image_confidence(cam, pseudo_label, masks),
            mask_scores=_scores(masks),
            seconds=sum(result.seconds.values()),
            probabilities=_probabilities(cam),
        )

    @classmethod
    def of_label(
        cls, image_id: str, image: RgbImage, label: LabelMap, *, side: int = PICTURE_SIDE
    ) -> ReportEntry:
        """Make the entry of an image of which only the refined label (H, W) uint8 is known."""
        pixels = count_pixels(label, label, None)
        column(pixels, "before")[:] = 0  # the pseudo label is not known
        picture, maps = image_picture(image, side), {"label": label_map(label)}
        return cls(image_id, label.shape, picture, maps, pixels, scored=False)

    @property
    def identity(self) -> str:
        """Hex digits of the image's id and its refined label: what a decision is about."""
        shown = json.dumps([self.image_id, self.maps["label"]], sort_keys=True)
        return hashlib.sha256(shown.encode()).hexdigest()[:IDENTITY_DIGITS]

    @property
    def miou(self) -> tuple[float, float] | None:
        """The mIoU of pseudo label and refined label, 0 to 1; None without ground truth."""
        return mean_iou(self.pixels) if self.scored else None

    def write(self, path: str | Path) -> None:
        """Write the entry as JSON. Raises OutputError."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return what `write` writes and `read` reads."""
        return {"version": VERSION, **vars(self), "pixels": self.pixels.tolist()}

    @classmethod
    def read(cls, path: str | Path) -> ReportEntry:
        """Read an entry that `write` wrote.

        Raises:
            LabelError: no such file, not an entry, or an entry of another version.
        """
        value = read_json(path, LabelError)
        try:
            if (version := value.pop("version")) != VERSION:
                raise ValueError(f"version is {version!r}, expected {VERSION}")
            pixels = np.array(value.pop("pixels"), np.int64).reshape(-1, len(COLUMNS))
            image_shape = tuple(value.pop("image_shape"))
            probabilities = {int(k): float(p) for k, p in value.pop("probabilities").items()}
            if "label" not in value["maps"]:
                raise ValueError("no map of the label")
            return cls(image_shape=image_shape, pixels=pixels, probabilities=probabilities, **value)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise LabelError(f"{path}: not a report entry ({error})") from error


def _cam_map(cam: CamResult | None) -> dict[str, EncodedMap]:
    """Return the heat map by its name; none without a CAM."""
    return {} if cam is None else {"cam": cam_map(cam)}


def _probabilities(cam: CamResult | None) -> dict[int, float]:
    """Return the probability of each class assumed to be in the image; none without a CAM."""
    if cam is None:
        return {}
    return {int(value): float(cam.probabilities[value - 1]) for value in cam.classes}


def _scores(masks: Masks) -> tuple[float, ...]:
    return tuple(round(score, _SCORE_DIGITS) for score in masks.predicted_iou.tolist())


def check_ground_truth(ground_truth: LabelMap, image: RgbImage) -> None:
    """Raise LabelError unless the ground truth has the shape of its image."""
    if ground_truth.shape != image.shape[:2]:
        raise LabelError(
            f"ground truth is {ground_truth.shape[1]} x {ground_truth.shape[0]} pixels, its image "
            f"{image.shape[1]} x {image.shape[0]}"
        )


def column(pixels: Pixels, name: str) -> NDArray[np.int64]:
    """Return a view (K,) of the column of that name in COLUMNS."""
    return pixels[:, COLUMNS.index(name)]


def occurs(pixels: Pixels) -> NDArray[np.bool_]:
    """Return which rows (K,) bool count any pixel."""
    return np.asarray(pixels[:, COLUMNS.index("class") + 1 :].any(axis=1))


def count_pixels(pseudo_label: LabelMap, label: LabelMap, ground_truth: LabelMap | None) -> Pixels:
    """Count pixels per class in the labels (H, W) uint8 of an image; see COLUMNS."""
    # A row for every value; those that occur nowhere are dropped at the end
    table = np.zeros((VALUES, len(COLUMNS)), np.int64)
    column(table, "class")[:] = np.arange(VALUES)
    column(table, "before")[:] = count_values(pseudo_label)
    column(table, "after")[:] = count_values(label)
    if ground_truth is not None:
        for rows in row_strips(ground_truth.shape):
            _count_matches(table, pseudo_label[rows], label[rows], ground_truth[rows])
    return table[occurs(table)]


def _count_matches(
    table: Pixels, pseudo_label: LabelMap, label: LabelMap, ground_truth: LabelMap
) -> None:
    """Add the pixels of labels (H, W) that are compared with ground truth to a table (256, 8)."""
    # Compare only where the ground truth is known
    known = ground_truth != IGNORE
    truth = ground_truth[known]
    column(table, "truth")[:] += count_values(truth)
    for name, predicted in (("before", pseudo_label[known]), ("after", label[known])):
        # As `samrefine evaluate` counts: predicting no class is predicting background
        classes = np.where(predicted == IGNORE, np.uint8(0), predicted)
        column(table, f"pred_{name}")[:] += count_values(classes)
        column(table, f"hit_{name}")[:] += count_values(truth[classes == truth])


def class_iou(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute each row's IoU (K,) in pseudo label and refined label; NaN for a class in neither."""
    return _iou(pixels, "before"), _iou(pixels, "after")


def mean_iou(pixels: Pixels) -> tuple[float, float] | None:
    """Average `class_iou` over the classes that occur; None if no pixel has ground truth."""
    if not column(pixels, "truth").any():
        return None
    before, after = class_iou(pixels)
    return float(np.nanmean(before)), float(np.nanmean(after))


def _iou(pixels: Pixels, name: str) -> NDArray[np.float64]:
    hits = column(pixels, f"hit_{name}")
    union = column(pixels, f"pred_{name}") + column(pixels, "truth") - hits
    ratio = np.full(len(hits), np.nan)
    np.divide(hits, union, out=ratio, where=union > 0)
    return ratio
