"""Prompts to masks, and masks with classes to a label map: people with boxes get pixel labels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samrefine_runtime.arguments import BundleLike, ImageLike, Progress, as_bundle, as_progress
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.checks import StrPath, as_array
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.labels import MAX_CLASS, LabelMap, count_values, write_label
from samrefine_runtime.masks import rle
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.predictor import Floats, Predictor
from samrefine_runtime.sam.settings import GeneratorSettings

_BATCH = 16
"""Boxes that are decoded together: as many as stay in a processor's cache."""


@dataclass(frozen=True, eq=False, repr=False)
class SegmentResult:
    """Result of the prompts of one image of H x W pixels."""

    label: LabelMap
    """Label map (H, W) uint8: the masks painted with their values, the smallest on top."""
    masks: Masks
    """One mask for each prompt, in their order; it may be empty."""
    values: NDArray[np.uint8]
    """(N,) uint8, the label value of each prompt."""
    seconds: Mapping[str, float]
    """Time of each stage in seconds: embed, masks."""

    def __repr__(self) -> str:
        return (
            f"SegmentResult(masks={len(self.masks)}, values={np.unique(self.values).tolist()}, "
            f"image_shape={self.masks.image_shape})"
        )

    def _repr_png_(self) -> bytes:
        """Return the picture that notebooks show: each mask in a colour, small ones on top."""
        return self.masks._repr_png_()

    def save(self, path: StrPath) -> None:
        """Write the label map as a palette PNG, see `write_label`.

        Raises SettingsError or OutputError.
        """
        write_label(path, self.label)

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return figures for a JSON file; `classes` are the C foreground class names."""
        pixels, areas = count_values(self.label), self.masks.areas
        present = [i for i in range(1, len(classes) + 1) if pixels[i]]
        return {
            "size": list(self.label.shape),
            "classes": {classes[i - 1]: {"pixels": int(pixels[i])} for i in present},
            "prompts": [
                {
                    "class": classes[value - 1],
                    "pixels": int(area),
                    "predicted_iou": round(float(score), 4),
                }
                for value, area, score in zip(
                    self.values, areas, self.masks.predicted_iou, strict=True
                )
            ],
            "seconds": {stage: round(taken, 3) for stage, taken in self.seconds.items()},
        }


class Segmenter:
    """Masks for boxes and points, one image at a time."""

    def __init__(
        self,
        bundle: BundleLike,
        *,
        session: SessionOptions | Mapping[str, Any] | None = None,
        encoder: ImageEncoder | None = None,
    ):
        """Open the bundle's graphs.

        Args:
            bundle: holds SAM; a Bundle, its folder, or "demo".
            session: how the graphs are run, or a dict of fields; None for SessionOptions().
            encoder: of the same bundle, to share one that is open; None opens another.

        Raises:
            BundleError: the bundle has no SAM.
            BackendError: no backend here can run the graphs.
            SettingsError: an unknown or impossible setting.
        """
        bundle = as_bundle(bundle)
        self.predictor = Predictor(bundle, session=session, encoder=encoder)
        self.runs_on = self.predictor.runs_on
        self._stability_offset = GeneratorSettings.of(bundle).stability_score_offset

    def boxes(
        self,
        image: ImageLike,
        boxes: ArrayLike,
        values: ArrayLike | None = None,
        *,
        progress: Progress | None = None,
    ) -> SegmentResult:
        """Find the object in each box; no mask leaves its box.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            boxes: (N, 4) XYXY edges in pixels of the image.
            values: (N,) label value of each box, 1 to 254; None for 1.
            progress: called with (boxes done, boxes in all) after every batch.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            SettingsError: boxes or values of another shape or range.
            InferenceError: a graph fails, or gives what is not finite.
        """
        corners = as_array(boxes, "boxes", "(N, 4) XYXY pixels", (None, 4), (0,))
        corners = corners.reshape(-1, 4).astype(np.float64)
        painted, step = _values(values, len(corners)), as_progress(progress)
        start = time.perf_counter()
        self.predictor.set_image(image)
        embedded = time.perf_counter()
        parts = [self._nothing()]
        for first in range(0, len(corners), _BATCH):
            batch = corners[first : first + _BATCH]
            # One mask for each: a box leaves little doubt
            low_res, scores = self.predictor.predict_low_res(boxes=batch, multimask_output=False)
            parts.append(self._masks(low_res[:, 0], scores[:, 0], batch))
            step(min(first + _BATCH, len(corners)), len(corners))
        masks = Masks.concatenate(parts)
        seconds = {"embed": embedded - start, "masks": time.perf_counter() - embedded}
        return SegmentResult(paint(masks, painted), masks, painted, seconds)

    def points(
        self,
        image: ImageLike,
        point_coords: ArrayLike,
        point_labels: ArrayLike,
        box: ArrayLike | None = None,
        value: int = 1,
        mask_input: ArrayLike | None = None,
    ) -> SegmentResult:
        """Find the one object that points, and a box if there is one, mean.

        A single point may mean a part, an object or a group: of SAM's three masks the one it is
        surest of is taken. A mask may leave the box, which points can correct.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            point_coords: (K, 2) XY pixels of the image.
            point_labels: (K,) 1 foreground, 0 background.
            box: (4,) or (1, 4) XYXY pixels of the image.
            value: label value, 1 to 254.
            mask_input: (1, h, w) low-res logits of an earlier mask, see `low_res_logits`.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            SettingsError: a prompt of another shape, or a value out of range.
            InferenceError: a graph fails, or gives what is not finite.
        """
        painted = _values([value], 1)
        points = as_array(point_coords, "point_coords", "(K, 2) XY pixels", (None, 2))
        labels = as_array(point_labels, "point_labels", "(K,) of 0 and 1", (None,), kinds="biuf")
        start = time.perf_counter()
        self.predictor.set_image(image)
        embedded = time.perf_counter()
        is_ambiguous = box is None and mask_input is None and len(labels) == 1
        low_res, scores = self.predictor.predict_logits(
            points, labels, box, mask_input, multimask_output=is_ambiguous
        )
        best = slice(int(scores.argmax()), int(scores.argmax()) + 1)
        masks = self._masks(low_res[best], scores[best], None)
        seconds = {"embed": embedded - start, "masks": time.perf_counter() - embedded}
        return SegmentResult(paint(masks, painted), masks, painted, seconds)

    def _nothing(self) -> Masks:
        return Masks.from_runs(self.predictor.image_shape, [])

    def _masks(self, low_res: Floats, scores: Floats, boxes: NDArray[np.float64] | None) -> Masks:
        """Resample logits (N, h, w) to masks of the image, each inside its box (N, 4) if any."""
        found = list(self._finished(low_res, boxes))
        return Masks.from_runs(
            self.predictor.image_shape,
            [counts for counts, _ in found],
            predicted_iou=scores,
            stability_score=np.array([score for _, score in found], np.float32),
        )

    def _finished(
        self, low_res: Floats, boxes: NDArray[np.float64] | None
    ) -> Iterator[tuple[rle.Counts, float]]:
        """Yield the run lengths and the stability score of each mask."""
        resampler, threshold = self.predictor.resampler(), self.predictor.mask_threshold
        for index, logits in enumerate(low_res):
            mask = resampler.mask(logits, threshold, self._stability_offset)
            counts = mask.counts
            if boxes is not None:
                counts = _inside(counts, boxes[index], self.predictor.image_shape)
            yield counts, mask.stability_score


def paint(masks: Masks, values: NDArray[np.uint8]) -> LabelMap:
    """Paint masks into a label map (H, W) uint8 with their values (N,), the smallest on top.

    Small things lie on or in front of large ones: a cushion in the box of its sofa stays a cushion.
    """
    label = np.zeros(masks.image_shape, np.uint8)
    for index in np.argsort(-masks.areas, kind="stable"):
        label[masks.dense(int(index))] = values[index]
    return label


def _inside(
    counts: rle.Counts, box: NDArray[np.float64], image_shape: tuple[int, int]
) -> rle.Counts:
    """Cut a mask to the pixels that its box (4,) XYXY touches."""
    left, top = (max(0, int(edge)) for edge in np.floor(box[:2]))
    right, bottom = (max(0, int(edge)) for edge in np.ceil(box[2:]))
    kept = np.zeros(image_shape, np.bool_)
    kept[top:bottom, left:right] = rle.decode(counts, image_shape)[top:bottom, left:right]
    return rle.encode(kept)


def _values(values: ArrayLike | None, count: int) -> NDArray[np.uint8]:
    """Return the label values (N,) of prompts. Raises SettingsError."""
    expected = f"({count},) whole numbers from 1 to {MAX_CLASS}"
    if values is None:
        return np.ones(count, np.uint8)
    found = as_array(values, "values", expected, (count,), kinds="iu")
    if found.size and not 1 <= found.min() <= found.max() <= MAX_CLASS:
        raise SettingsError(f"values has {found.min()} to {found.max()}, expected {expected}")
    return found.astype(np.uint8)
