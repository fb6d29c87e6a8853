"""Mean IoU of label maps against ground truth, as PASCAL VOC counts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.labels import IGNORE, MAX_CLASS, VOC_CLASSES, LabelMap, read_label

Confusion = NDArray[np.int64]
"""(C, C) int64 pixels, rows ground truth, columns prediction"""


@dataclass(frozen=True)
class Evaluation:
    """Quality of a set of label maps. All figures are 0 to 1; classes are C, background first.

    Attributes:
        confusion: (C, C) int64 pixels of all images, rows ground truth, columns prediction.
        images: number of images compared.
        missing: ids of ground-truth images without a prediction.
        skipped: one message for each image that could not be compared.
    """

    confusion: Confusion
    images: int
    missing: list[str]
    skipped: list[str]

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,) float64 intersection over union; NaN for a class that occurs in neither."""
        hits = np.diag(self.confusion)
        return _ratio(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) float64 share of predicted pixels that are right; NaN if never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) float64 share of true pixels that are found; NaN if not in the ground truth."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN if nothing was compared."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if known.size else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Figures for JSON: NaN becomes None, per-class lists are in the order of classes."""
        return {
            "miou": _json_number(self.miou),
            "iou": [_json_number(value) for value in self.iou],
            "precision": [_json_number(value) for value in self.precision],
            "recall": [_json_number(value) for value in self.recall],
            "images": self.images,
            "missing": self.missing,
            "skipped": self.skipped,
        }


def evaluate(
    predictions: str | Path,
    ground_truth: str | Path,
    num_classes: int = len(VOC_CLASSES),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare every `<id>.png` of a ground-truth folder with its namesake in `predictions`.

    One confusion matrix over the whole set; 255 in the ground truth is left out, 255 in a
    prediction counts as background. Images that cannot be compared do not stop the rest.

    Args:
        progress: called with (images done, images in all) after each image.

    Raises:
        SettingsError: a folder is missing, the ground truth is empty, or `num_classes` is not
            2 to 255.
    """
    if not 2 <= num_classes <= MAX_CLASS + 1:
        raise SettingsError(f"num_classes is {num_classes}, expected 2 to {MAX_CLASS + 1}")
    for folder in (predictions, ground_truth):
        if not Path(folder).is_dir():
            raise SettingsError(f"{folder}: no such folder")
    references = sorted(path for path in Path(ground_truth).glob("*.png") if path.name[0] != ".")
    if not references:
        raise SettingsError(f"{ground_truth}: no PNG label maps here")
    total = np.zeros((num_classes, num_classes), np.int64)
    missing: list[str] = []
    skipped: list[str] = []
    for done, reference in enumerate(references, 1):
        prediction = Path(predictions) / reference.name
        if prediction.is_file():
            try:
                total += _compare_files(prediction, reference, num_classes)
            except LabelError as error:
                skipped.append(str(error))
        else:
            missing.append(reference.stem)
        if progress is not None:
            progress(done, len(references))
    return Evaluation(total, len(references) - len(missing) - len(skipped), missing, skipped)


def confusion_matrix(prediction: LabelMap, ground_truth: LabelMap, num_classes: int) -> Confusion:
    """Pixels (C, C) int64 by true class (row) and predicted class (column) of one image.

    Args:
        prediction: (H, W) uint8; 255 counts as background.
        ground_truth: (H, W) uint8; pixels of 255 are left out.

    Raises:
        LabelError: sizes differ, or a class is not below `num_classes`.
    """
    if prediction.shape != ground_truth.shape:
        raise LabelError(
            f"prediction is {prediction.shape} (H, W), ground truth {ground_truth.shape}"
        )
    counted = ground_truth != IGNORE
    rows = ground_truth[counted].astype(np.intp)
    columns = np.where(prediction == IGNORE, 0, prediction)
    for name, classes in (("prediction", columns), ("ground truth", rows)):
        if (highest := int(classes.max(initial=0))) >= num_classes:
            raise LabelError(f"{name} has class {highest}, expected below {num_classes}")
    pairs = np.bincount(rows * num_classes + columns[counted], minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def _compare_files(prediction: Path, reference: Path, num_classes: int) -> Confusion:
    labels = read_label(prediction), read_label(reference)
    try:
        return confusion_matrix(*labels, num_classes)
    except LabelError as error:
        raise LabelError(f"{prediction}: {error}") from error


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
