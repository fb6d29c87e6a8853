"""All masks of one image, as arrays: run lengths instead of an N x H x W stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.errors import MaskFileError, SettingsError
from samrefine_runtime.masks import rle

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
"""Forms of `segmentation` in records, named as in SamAutomaticMaskGenerator."""

OUTPUT_MODES: tuple[str, ...] = get_args(OutputMode)

PER_MASK = ("boxes", "predicted_iou", "stability_score", "point_coords", "crop_boxes")
"""Fields of Masks with one row per mask."""


@dataclass(frozen=True)
class Masks:
    """N masks over one image of H x W pixels.

    Attributes:
        image_shape: (H, W) of the image, pixels.
        counts: (R,) uint32, run lengths of all masks, concatenated (see `rle`).
        offsets: (N + 1,) int64, mask i owns counts[offsets[i]:offsets[i + 1]].
        boxes: (N, 4) int32 XYXY pixels, right and bottom inclusive; zeros for an empty mask.
        predicted_iou: (N,) float32, the model's own estimate of the mask's IoU.
        stability_score: (N,) float32 in [0, 1], see `MaskGenerator`.
        point_coords: (N, 2) float64 XY pixels, the point prompt of each mask.
        crop_boxes: (N, 4) int32 XYXY pixels, the crop in which each mask was found.
    """

    image_shape: tuple[int, int]
    counts: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.int32]
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    point_coords: NDArray[np.float64]
    crop_boxes: NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, values in self.attributes().items():
            if len(values) != len(self):
                raise SettingsError(f"{name} has {len(values)} rows, expected {len(self)}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def attributes(self) -> dict[str, Any]:
        """Return the arrays with one row per mask, by field name."""
        return {name: getattr(self, name) for name in PER_MASK}

    @classmethod
    def from_runs(
        cls,
        image_shape: tuple[int, int],
        runs: Sequence[rle.Counts],
        *,
        boxes: NDArray[np.int32] | None = None,
        predicted_iou: NDArray[np.float32] | None = None,
        stability_score: NDArray[np.float32] | None = None,
        point_coords: NDArray[np.float64] | None = None,
        crop_boxes: NDArray[np.int32] | None = None,
    ) -> Masks:
        """Build masks from one run-length code each, and fill in the fields that are None.

        Boxes are computed from the runs, scores are 1, points NaN, crops the whole image.
        """
        n = len(runs)
        # offsets (N + 1,): where each mask's runs start in counts (R,)
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum([len(counts) for counts in runs], out=offsets[1:])
        counts = np.concatenate(runs) if n else np.zeros(0, np.uint32)
        ones = np.ones(n, np.float32)
        whole = np.tile(np.array([0, 0, image_shape[1], image_shape[0]], np.int32), (n, 1))
        return cls(
            image_shape=image_shape,
            counts=counts,
            offsets=offsets,
            boxes=_boxes_of_runs(runs, image_shape[0]) if boxes is None else boxes,
            predicted_iou=ones if predicted_iou is None else predicted_iou,
            stability_score=ones if stability_score is None else stability_score,
            point_coords=np.full((n, 2), np.nan) if point_coords is None else point_coords,
            crop_boxes=whole if crop_boxes is None else crop_boxes,
        )

    @classmethod
    def from_dense(cls, image_shape: tuple[int, int], masks: Iterable[NDArray[np.bool_]]) -> Masks:
        """Encode (H, W) bool arrays, taken one at a time.

        Raises:
            MaskFileError: an array is not of `image_shape`.
        """
        runs = []
        for index, mask in enumerate(masks):
            if mask.shape != image_shape:
                raise MaskFileError(f"mask {index} is {mask.shape}, expected {image_shape} (H, W)")
            runs.append(rle.encode(mask))
        return cls.from_runs(image_shape, runs)

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """Join several sets of masks of the same image, in order."""
        # Each part's offsets move by the number of runs before it
        starts = np.cumsum([0] + [len(part.counts) for part in parts])
        shifted = [
            part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)
        ]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("counts", *PER_MASK)
        }
        offsets = np.concatenate([*shifted, starts[-1:]])
        return cls(image_shape=parts[0].image_shape, offsets=offsets, **joined)

    def runs(self, index: int) -> rle.Counts:
        """Return the run lengths (R_i,) uint32 of one mask."""
        return self.counts[self.offsets[index] : self.offsets[index + 1]]

    def dense(self, index: int) -> NDArray[np.bool_]:
        """Decode one mask to (H, W) bool."""
        return rle.decode(self.runs(index), self.image_shape)

    def select(self, index: NDArray[np.intp] | Sequence[int]) -> Masks:
        """Return the masks at `index` (K,) int, in that order."""
        index = np.asarray(index, np.intp)
        return Masks.from_runs(
            self.image_shape,
            [self.runs(int(i)) for i in index],
            **{name: values[index] for name, values in self.attributes().items()},
        )

    @property
    def areas(self) -> NDArray[np.int64]:
        """Number of pixels in each mask, (N,) int64."""
        starts, ends, owner = self.spans()
        return np.bincount(owner, ends - starts, minlength=len(self)).astype(np.int64)

    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]:
        """Return the start, the end and the mask of every run of ones of all masks.

        Returns:
            starts (S,) int64 and ends (S,) int64, exclusive, flat column-major pixel positions;
            and owner (S,) int, the index of the mask.
        """
        # owner (R,): the mask of each run
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        # ends (R,): the runs of a mask fill H * W pixels, so those of earlier masks are subtracted
        ends = np.cumsum(self.counts, dtype=np.int64) - owner * (
            self.image_shape[0] * self.image_shape[1]
        )
        # Runs alternate from zeros: the odd ones of each mask are ones
        is_one = (np.arange(len(self.counts)) - self.offsets[owner]) % 2 == 1
        ends = ends[is_one]
        return ends - self.counts[is_one], ends, owner[is_one]

    def to_records(self, output_mode: OutputMode = "binary_mask") -> list[dict[str, Any]]:
        """Return one dict per mask, with the keys and value types of SamAutomaticMaskGenerator.

        Args:
            output_mode: form of `segmentation`: (H, W) bool, a dict with a list of run lengths,
                or a dict with COCO's compressed string.

        Raises:
            SettingsError: an unknown output mode.
        """
        if output_mode not in OUTPUT_MODES:
            raise SettingsError(f"output_mode is {output_mode!r}, expected one of {OUTPUT_MODES}")
        areas = self.areas
        return [
            {
                "segmentation": self._segmentation(i, output_mode),
                "area": int(areas[i]),
                "bbox": _xywh(self.boxes[i]),
                "predicted_iou": float(self.predicted_iou[i]),
                "point_coords": [self.point_coords[i].tolist()],
                "stability_score": float(self.stability_score[i]),
                "crop_box": _xywh(self.crop_boxes[i]),
            }
            for i in range(len(self))
        ]

    def _segmentation(self, index: int, output_mode: OutputMode) -> Any:
        if output_mode == "binary_mask":
            return self.dense(index)
        counts = self.runs(index)
        if output_mode == "coco_rle":
            return {"size": list(self.image_shape), "counts": rle.to_coco_string(counts)}
        return {"size": list(self.image_shape), "counts": counts.tolist()}


class Coverage:
    """Counts how many of some masks lie over each pixel."""

    def __init__(self, masks: Masks):
        self.starts, self.ends, self.owner = masks.spans()
        self.pixels = masks.image_shape[0] * masks.image_shape[1]

    def count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the masks `chosen` (N,) bool over each pixel, (W * H,) int64, column-major."""
        # steps (W * H + 1,): +1 where a run of ones starts, -1 where it ends; their prefix sum
        # is the count. One more position holds the runs that end with the image.
        mine = chosen[self.owner]
        steps = np.bincount(self.starts[mine], minlength=self.pixels + 1)
        steps -= np.bincount(self.ends[mine], minlength=self.pixels + 1)
        return np.cumsum(steps[:-1])


def _boxes_of_runs(runs: Sequence[rle.Counts], height: int) -> NDArray[np.int32]:
    """Compute the XYXY boxes (N, 4) of masks; without masks (0, 4)."""
    return np.array([rle.box(counts, height) for counts in runs], np.int32).reshape(-1, 4)


def _xywh(box: NDArray[np.int32]) -> list[int]:
    """Convert XYXY to XYWH as SAM does: right minus left, even where right is inclusive."""
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]
