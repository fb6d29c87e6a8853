"""One image of the report: small pictures and figures, nothing of full size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError
from samrefine_runtime.formats.jsonfile import read_json, write_json
from samrefine_runtime.image import RgbImage
from samrefine_runtime.labels import IGNORE, LabelMap
from samrefine_runtime.report.pictures import (
    cam_picture,
    image_picture,
    label_picture,
    mask_picture,
)
from samrefine_runtime.results import LabelResult

LAYERS = ("image", "cam", "masks", "pseudo_label", "label", "ground_truth")

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
"""of `ReportEntry.pixels`. `before` and `after` are a class's pixels in pseudo label and refined
label. The others are counted where the ground truth is not 255, and are 0 without one: the class
in the ground truth, in each label, and where label and ground truth agree"""

Pixels = NDArray[np.int64]
"""(K, 8) int64, see COLUMNS"""

_VERSION = 1


@dataclass(frozen=True)
class ReportEntry:
    """What the report shows of one image."""

    image_id: str
    size: tuple[int, int]
    """(H, W) of the image"""
    pictures: Mapping[str, str]
    """data URI by name, some of LAYERS"""
    pixels: Pixels
    """a row for each class that occurs, background included"""
    scored: bool
    """whether there is ground truth"""
    changed: float | None = None
    """share of the pixels that the refinement changed, 0 to 1"""
    masks: int | None = None
    """how many"""
    seconds: float | None = None
    """for all stages"""
    probabilities: Mapping[int, float] = field(default_factory=dict)
    """what the classifier says, 0 to 1, by class taken to be in the image"""

    @classmethod
    def of(
        cls,
        image_id: str,
        image: RgbImage,
        result: LabelResult,
        ground_truth: LabelMap | None = None,
        *,
        side: int = 320,
    ) -> ReportEntry:
        """The entry of an image just labelled.

        Args:
            image_id: the image's name.
            image: (H, W, 3) uint8 RGB.
            result: of that image.
            ground_truth: (H, W) uint8, 255 for no class.
            side: longer side of the pictures, pixels; see `picture_side`.

        Raises:
            LabelError: the ground truth has another size than the image.
        """
        pictures = {
            "image": image_picture(image, side),
            "cam": cam_picture(result.cam),
            "masks": mask_picture(result.masks, side),
            "pseudo_label": label_picture(result.pseudo_label, side),
            "label": label_picture(result.label, side),
        }
        if ground_truth is not None:
            check_ground_truth(ground_truth, image)
            pictures["ground_truth"] = label_picture(ground_truth, side)
        return cls(
            image_id=image_id,
            size=result.label.shape,
            pictures=pictures,
            pixels=count_pixels(result.pseudo_label, result.label, ground_truth),
            scored=ground_truth is not None,
            changed=result.changed,
            masks=len(result.masks),
            seconds=sum(result.seconds.values()),
            probabilities={
                int(value): float(result.cam.probabilities[value - 1])
                for value in result.cam.classes
            },
        )

    @classmethod
    def of_label(
        cls, image_id: str, image: RgbImage, label: LabelMap, *, side: int = 320
    ) -> ReportEntry:
        """The entry of an image of which only the refined label (H, W) uint8 is left."""
        pixels = count_pixels(label, label, None)
        pixels[:, 1] = 0
        pictures = {"image": image_picture(image, side), "label": label_picture(label, side)}
        return cls(image_id, label.shape, pictures, pixels, scored=False)

    @property
    def miou(self) -> tuple[float, float] | None:
        """mIoU of pseudo label and refined label, 0 to 1; None without ground truth."""
        return mean_iou(self.pixels) if self.scored else None

    def write(self, path: str | Path) -> None:
        """Save as JSON. Raises OutputError."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """A value for JSON that `read` understands."""
        return {"version": _VERSION, **vars(self), "pixels": self.pixels.tolist()}

    @classmethod
    def read(cls, path: str | Path) -> ReportEntry:
        """The entry of a file that `write` made. Raises LabelError."""
        value = read_json(path, LabelError)
        try:
            if value.pop("version") != _VERSION:
                raise ValueError("of another release")
            pixels = np.array(value.pop("pixels"), np.int64).reshape(-1, len(COLUMNS))
            size = tuple(value.pop("size"))
            probabilities = {int(k): float(p) for k, p in value.pop("probabilities").items()}
            return cls(size=size, pixels=pixels, probabilities=probabilities, **value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{path}: not an entry of a report ({error})") from error


def check_ground_truth(ground_truth: LabelMap, image: RgbImage) -> None:
    """Raise LabelError unless the two are of one size."""
    if ground_truth.shape != image.shape[:2]:
        raise LabelError(
            f"ground truth is {ground_truth.shape[1]} x {ground_truth.shape[0]} pixels, its image "
            f"{image.shape[1]} x {image.shape[0]}"
        )


def count_pixels(pseudo_label: LabelMap, label: LabelMap, ground_truth: LabelMap | None) -> Pixels:
    """Pixels by class of the labels of one image, all (H, W) uint8."""
    table = np.zeros((256, len(COLUMNS)), np.int64)
    table[:, 0] = np.arange(256)
    table[:, 1], table[:, 2] = _count(pseudo_label), _count(label)
    if ground_truth is not None:
        known = ground_truth != IGNORE
        truth = ground_truth[known]
        table[:, 3] = _count(truth)
        for column, predicted in ((4, pseudo_label[known]), (6, label[known])):
            # As the benchmark counts: no class is background where one is asked for.
            classes = np.where(predicted == IGNORE, 0, predicted)
            table[:, column] = _count(classes)
            table[:, column + 1] = _count(truth[classes == truth])
    return table[table[:, 1:].any(axis=1)]


def class_iou(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU (K,) of each row in pseudo label and refined label; NaN for a class in neither."""
    truth, pred_before, hit_before, pred_after, hit_after = pixels[:, 3:].T
    return _iou(hit_before, pred_before, truth), _iou(hit_after, pred_after, truth)


def mean_iou(pixels: Pixels) -> tuple[float, float] | None:
    """Mean of `class_iou` over the classes that occur; None where there is nothing to compare."""
    if not pixels[:, 3:].any():
        return None
    before, after = class_iou(pixels)
    return float(np.nanmean(before)), float(np.nanmean(after))


def _iou(
    hits: NDArray[np.int64], predicted: NDArray[np.int64], truth: NDArray[np.int64]
) -> NDArray[np.float64]:
    union = predicted + truth - hits
    ratio = np.full(len(hits), np.nan)
    np.divide(hits, union, out=ratio, where=union > 0)
    return ratio


def _count(values: NDArray[np.uint8]) -> NDArray[np.intp]:
    return np.bincount(values.reshape(-1), minlength=256)
