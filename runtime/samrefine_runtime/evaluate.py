"""Mean IoU of label maps against ground truth, as PASCAL VOC counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.arguments import Progress, as_progress
from samrefine_runtime.checks import StrPath, as_path
from samrefine_runtime.errors import LabelError, SettingsError
from samrefine_runtime.image import row_strips
from samrefine_runtime.labels import IGNORE, MAX_CLASS, VOC_CLASSES, LabelMap, read_label
from samrefine_runtime.listing import files_in
from samrefine_runtime.names import image_id
from samrefine_runtime.settings import Domain

Confusion = NDArray[np.int64]
"""(C, C) int64 pixels, rows ground truth, columns prediction."""


@dataclass(frozen=True)
class Evaluation:
    """Quality of a set of label maps of C classes, background first; all figures are 0 to 1.

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

    def __repr__(self) -> str:
        return (
            f"Evaluation(miou={self.miou:.4f}, images={self.images}, missing={len(self.missing)}, "
            f"skipped={len(self.skipped)})"
        )

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, (C,) float64; NaN for a class that occurs in neither."""
        # Union: predicted pixels plus true pixels, less those counted twice
        hits = np.diag(self.confusion)
        return _ratio(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Fraction of predicted pixels that are right, (C,) float64; NaN if never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Fraction of true pixels that are found, (C,) float64; NaN if not in the ground truth."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN if nothing was compared."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if known.size else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the figures for JSON: NaN is None, lists per class are in the order of classes."""
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
    predictions: StrPath,
    ground_truth: StrPath,
    num_classes: int = len(VOC_CLASSES),
    progress: Progress | None = None,
) -> Evaluation:
    """Compare every `<id>.png` of a ground-truth folder with its namesake in `predictions`.

    Folders in the ground truth are part of the ids.

    One confusion matrix covers the whole set: 255 in the ground truth is ignored, 255 in a
    prediction counts as background. Images that cannot be compared are skipped.

    Args:
        predictions: folder of predicted label maps.
        ground_truth: folder of true label maps, which decides the images.
        num_classes: number of classes C with background, 2 to 255.
        progress: called with (images done, images in all) after each image, None for nothing.

    Raises:
        SettingsError: a folder is missing, the ground truth is empty, or `num_classes` is not
            2 to 255; an argument of another type.
    """
    Domain(int, 2, MAX_CLASS + 1).check("num_classes", num_classes)
    step = as_progress(progress)
    predictions = as_path(predictions, "predictions")
    ground_truth = as_path(ground_truth, "ground_truth")
    for folder in (predictions, ground_truth):
        if not folder.is_dir():
            raise SettingsError(f"{folder}: no such folder")
    # Hidden files are skipped: macOS adds `._` files with the suffix of the original
    references = files_in(ground_truth, {".png"})
    if not references:
        raise SettingsError(f"{ground_truth}: no PNG label maps here")
    # total (C, C): the pixels of all images are added up before any ratio, as VOC does
    total = np.zeros((num_classes, num_classes), np.int64)
    missing: list[str] = []
    skipped: list[str] = []
    for done, reference in enumerate(references, 1):
        name = image_id(reference, ground_truth)
        prediction = predictions / f"{name}.png"
        if prediction.is_file():
            try:
                total += _compare_files(prediction, reference, num_classes)
            except LabelError as error:
                skipped.append(str(error))
        else:
            missing.append(name)
        step(done, len(references))
    return Evaluation(total, len(references) - len(missing) - len(skipped), missing, skipped)


def confusion_matrix(prediction: LabelMap, ground_truth: LabelMap, num_classes: int) -> Confusion:
    """Count the pixels of one image by true class (row) and predicted class (column), (C, C).

    Args:
        prediction: (H, W) uint8; 255 counts as background.
        ground_truth: (H, W) uint8; pixels of 255 are ignored.
        num_classes: number of classes C with background.

    Raises:
        LabelError: shapes differ, or a class is not below `num_classes`.
    """
    if prediction.shape != ground_truth.shape:
        raise LabelError(
            f"prediction is {prediction.shape} (H, W), ground truth {ground_truth.shape}"
        )
    total = np.zeros((num_classes, num_classes), np.int64)
    for rows in row_strips(ground_truth.shape):
        total += _confusion(prediction[rows], ground_truth[rows], num_classes)
    return total


def _confusion(prediction: LabelMap, ground_truth: LabelMap, num_classes: int) -> Confusion:
    """Count what `confusion_matrix` does in labels of the same shape."""
    counted = ground_truth != IGNORE
    # truth (P,): true class of each counted pixel; classes (H, W): predicted class
    truth = ground_truth[counted].astype(np.intp)
    classes = np.where(prediction == IGNORE, np.uint8(0), prediction)
    # The prediction is checked at ignored pixels too: a class out of range is wrong anywhere
    for name, found in (("prediction", classes), ("ground truth", truth)):
        if (highest := int(found.max(initial=0))) >= num_classes:
            raise LabelError(f"{name} has class {highest}, expected below {num_classes}")
    # pairs (C * C,): pixels of each pair of classes, at truth * C + class
    pairs = np.bincount(truth * num_classes + classes[counted], minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def _compare_files(prediction: Path, reference: Path, num_classes: int) -> Confusion:
    """Compare two files by `confusion_matrix`. Raises LabelError that names the prediction."""
    labels = read_label(prediction), read_label(reference)
    try:
        return confusion_matrix(*labels, num_classes)
    except LabelError as error:
        raise LabelError(f"{prediction}: {error}") from error


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide per class, (C,); NaN where the whole is 0."""
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
