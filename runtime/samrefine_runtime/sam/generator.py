"""Everything mode: all masks of a photo from a grid of point prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.ort import Backend
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.image import RgbImage, check_image
from samrefine_runtime.masks.masks import OUTPUT_MODES, Masks, OutputMode
from samrefine_runtime.masks.nms import box_nms
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.masks.rle import Counts, box, encode
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.grids import Crop, Points, crops, point_grids, touches_crop_edge
from samrefine_runtime.sam.point_decoder import Decoded, PointDecoder, PromptedImage, batch_size
from samrefine_runtime.sam.prompts import in_rounds, points_in, unexplained

Progress = Callable[[int, int], None]
"""told (prompts done, prompts in all)"""


@dataclass(frozen=True)
class GeneratorSettings:
    """Parameters of SamAutomaticMaskGenerator, under its names."""

    points_per_side: int | None = 32
    """points of the grid along one side; None where point_grids is given"""
    points_per_batch: int = 4
    """prompts decoded at once; small batches stay in cache. Does not change the result"""
    pred_iou_thresh: float = 0.88
    """masks whose predicted IoU is not above it are dropped; not applied at 0"""
    stability_score_thresh: float = 0.95
    """masks less stable are dropped; not applied at 0"""
    stability_score_offset: float = 1.0
    """how far, in logits, the threshold is moved up and down to measure stability"""
    box_nms_thresh: float = 0.7
    """box IoU above which the mask of lower predicted IoU is a duplicate"""
    crop_n_layers: int = 0
    """layers of crops to look at beside the whole photo; layer i has 4^i"""
    crop_nms_thresh: float = 0.7
    """box IoU above which masks of different crops are duplicates"""
    crop_overlap_ratio: float = 512 / 1500
    """overlap of the first layer's crops, as a share of the photo's shorter side"""
    crop_n_points_downscale_factor: int = 1
    """the grid of layer n has points_per_side / factor^n points a side"""
    point_grids: Sequence[Points] | None = None
    """own points (N, 2) XY in [0, 1] for each crop layer, in the place of points_per_side"""
    min_mask_region_area: int = 0
    """pixels; smaller holes are filled and smaller islands removed"""
    hierarchical: bool = False
    """ask every second point along each axis first, and of the rest those alone that no mask found
    so far explains: fewer prompts, and masks that differ from the reference's"""
    output_mode: OutputMode = "binary_mask"
    """form of `segmentation` in the records"""

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise SettingsError("exactly one of points_per_side and point_grids is needed")
        for name, (kind, least, most) in _RANGES.items():
            value = getattr(self, name)
            is_absent = value is None and name == "points_per_side"
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if not is_absent and not (is_number and least <= float(value) <= most):
                what = "a whole number" if kind is Integral else "a number"
                raise SettingsError(f"{name} is {value!r}, expected {what}{_range(least, most)}")
        if not isinstance(self.hierarchical, bool):
            raise SettingsError(f"hierarchical is {self.hierarchical!r}, expected true or false")
        if self.output_mode not in OUTPUT_MODES:
            raise SettingsError(
                f"output_mode is {self.output_mode!r}, expected one of {', '.join(OUTPUT_MODES)}"
            )
        if self.point_grids is not None and len(self.point_grids) <= self.crop_n_layers:
            raise SettingsError(
                f"point_grids has {len(self.point_grids)} grids, expected one a crop layer: "
                f"{self.crop_n_layers + 1}"
            )
        for layer, grid in enumerate(self.grids()):
            if grid.ndim != 2 or grid.shape[1] != 2 or len(grid) == 0:
                raise SettingsError(f"no grid of points (N, 2) for crop layer {layer}")

    def grids(self) -> Sequence[Points]:
        """Points (N, 2) XY in [0, 1] of each crop layer."""
        if self.point_grids is not None:
            return [np.asarray(grid, np.float64) for grid in self.point_grids]
        return point_grids(
            int(self.points_per_side or 0), self.crop_n_layers, self.crop_n_points_downscale_factor
        )


_RANGES: dict[str, tuple[type[Any], float, float]] = {
    "points_per_side": (Integral, 1, math.inf),
    "points_per_batch": (Integral, 1, math.inf),
    "pred_iou_thresh": (Real, -math.inf, math.inf),
    "stability_score_thresh": (Real, -math.inf, math.inf),
    "stability_score_offset": (Real, 0, math.inf),
    "box_nms_thresh": (Real, -math.inf, math.inf),
    "crop_n_layers": (Integral, 0, math.inf),
    "crop_nms_thresh": (Real, -math.inf, math.inf),
    "crop_overlap_ratio": (Real, 0, 1),
    "crop_n_points_downscale_factor": (Integral, 1, math.inf),
    "min_mask_region_area": (Integral, 0, math.inf),
}
"""kind, least and most of each number"""


def _range(least: float, most: float) -> str:
    if most < math.inf:
        return f" from {least} to {most}"
    return f" of at least {least}" if least > -math.inf else ""


class Candidate(NamedTuple):
    """A mask on its way."""

    counts: Counts
    box: tuple[int, int, int, int]
    """XYXY pixels of the photo, right and bottom inclusive"""
    predicted_iou: float
    stability_score: float
    point: NDArray[np.float64]
    """(2,) XY in the photo"""


class MaskGenerator:
    """SamAutomaticMaskGenerator without torch: the same parameters, masks and order.

    Settings come from the keywords, then from the bundle's own defaults, then from SAM's.
    """

    def __init__(
        self,
        bundle: Bundle,
        points_per_side: int | None = None,
        *,
        memory_mb: int | None = None,
        backend: Backend = "auto",
        threads: int | None = None,
        **settings: Any,
    ):
        """Open the bundle's graphs.

        Args:
            bundle: holds SAM.
            points_per_side: see GeneratorSettings.
            memory_mb: what a batch of prompts may take; sets points_per_batch.
            backend: see OrtSession.
            threads: CPU threads, None for all cores.
            settings: any field of GeneratorSettings.

        Raises:
            SettingsError: an unknown or impossible setting.
            BundleError: the bundle has no SAM.
            BackendError: nothing here can run the graphs.
        """
        if points_per_side is not None:
            settings["points_per_side"] = points_per_side
        if memory_mb is not None:
            settings["points_per_batch"] = batch_size(bundle.require_sam(), memory_mb)
        self.settings = settings_for(bundle, settings)
        self.encoder = ImageEncoder(bundle, backend=backend, threads=threads)
        self.decoder = PointDecoder(bundle, backend=backend, threads=threads)
        hierarchical = self.settings.hierarchical
        grids = self.settings.grids()
        self._rounds = [in_rounds(grid) if hierarchical else [grid] for grid in grids]

    def generate(
        self,
        image: RgbImage,
        *,
        region: NDArray[np.bool_] | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Masks:
        """All masks of a photo.

        Args:
            image: (H, W, 3) uint8 RGB.
            region: (H, W) bool, prompt only grid points inside it; None for the whole grid.
            progress: called after every batch of prompts.

        Returns:
            Masks in the order of SamAutomaticMaskGenerator: by predicted IoU within a crop, small
            crops first.

        Raises:
            ImageError: the image is not (H, W, 3) uint8 or is empty.
            SettingsError: the region has another size than the image.
        """
        settings = self.settings
        size = check_image(image).shape[:2]
        if region is not None and region.shape != size:
            raise SettingsError(f"region is {region.shape}, its photo {size} (H, W)")
        places = crops(size, settings.crop_n_layers, settings.crop_overlap_ratio)
        rounds = [
            [points_in(crop, grid, region) for grid in self._rounds[crop.layer]] for crop in places
        ]
        count = _Counter(sum(len(points) for crop in rounds for points in crop), progress)
        parts = [
            self._masks_of_crop(image, crop, points, count)
            for crop, points in zip(places, rounds, strict=True)
        ]
        masks = Masks.concatenate(parts)
        if len(places) > 1:
            masks = masks.select(_nms_between_crops(masks, settings.crop_nms_thresh))
        if settings.min_mask_region_area > 0:
            masks = remove_small_regions(
                masks,
                settings.min_mask_region_area,
                max(settings.box_nms_thresh, settings.crop_nms_thresh),
            )
        return masks

    def records(self, image: RgbImage) -> list[dict[str, Any]]:
        """What `SamAutomaticMaskGenerator.generate` returns, in the settings' output_mode."""
        return self.generate(image).to_records(self.settings.output_mode)

    def _masks_of_crop(
        self, image: RgbImage, crop: Crop, rounds: Sequence[Points], count: _Counter
    ) -> Masks:
        size = image.shape[:2]
        left, top, right, bottom = crop.box
        found: list[Candidate] = []
        masks = _to_masks(found, crop, size)
        if not any(map(len, rounds)):
            return masks
        prompted = self.decoder.prepare(self.encoder.embed(image[top:bottom, left:right]))
        for points in rounds:
            asked = unexplained(points, crop, masks)
            count.skip(len(points) - len(asked))
            found += self._candidates(prompted, crop, size, asked, count)
            masks = self._distinct(found, crop, size)
        return masks

    def _distinct(self, found: Sequence[Candidate], crop: Crop, size: tuple[int, int]) -> Masks:
        """Whole masks of a crop without duplicates, best first."""
        boxes = np.array([candidate.box for candidate in found], np.int32).reshape(-1, 4)
        scores = np.array([candidate.predicted_iou for candidate in found], np.float32)
        whole = np.flatnonzero(~touches_crop_edge(boxes, crop, size))
        keep = whole[box_nms(boxes[whole], scores[whole], self.settings.box_nms_thresh)]
        return _to_masks([found[i] for i in keep], crop, size)

    def _candidates(
        self,
        image: PromptedImage,
        crop: Crop,
        size: tuple[int, int],
        points: Points,
        count: _Counter,
    ) -> Iterator[Candidate]:
        """Masks that pass predicted IoU and stability, batch by batch."""
        settings, sam = self.settings, self.encoder.sam
        _, height, width = sam.embedding
        resampler = MaskResampler((4 * height, 4 * width), sam.size, crop, size)
        for batch, (logits, scores, owners) in self._decoded(image, points):
            for low_res, score, owner in zip(logits, scores, owners, strict=True):
                mask = resampler.mask(low_res, sam.mask_threshold, settings.stability_score_offset)
                if self._is_stable(mask.stability_score):
                    point = batch[owner] + crop.box[:2]
                    around = box(mask.counts, size[0])
                    yield Candidate(mask.counts, around, score, mask.stability_score, point)
            count.add(len(batch))

    def _decoded(self, image: PromptedImage, points: Points) -> Iterator[tuple[Points, Decoded]]:
        """Batches of points with their masks; the next batch is decoded while one is in use."""
        size, threshold = self.settings.points_per_batch, self.settings.pred_iou_thresh
        least = threshold if threshold > 0 else -np.inf
        batches = [points[start : start + size] for start in range(0, len(points), size)]
        if not batches:
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self.decoder.decode, image, batches[0], least)
            for index, batch in enumerate(batches):
                decoded = coming.result()
                if index + 1 < len(batches):
                    coming = pool.submit(self.decoder.decode, image, batches[index + 1], least)
                yield batch, decoded

    def _is_stable(self, score: float) -> bool:
        threshold = self.settings.stability_score_thresh
        return threshold <= 0 or bool(np.float32(score) >= np.float32(threshold))


def settings_for(bundle: Bundle, given: dict[str, Any]) -> GeneratorSettings:
    """Settings from keywords over the bundle's defaults. Raises SettingsError on unknown names."""
    known = GeneratorSettings.__dataclass_fields__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]!r}, expected one of {', '.join(known)}")
    defaults = {k: v for k, v in bundle.defaults.items() if k in known and k not in given}
    if given.get("point_grids") is not None:
        defaults["points_per_side"] = given.get("points_per_side")
    return GeneratorSettings(**{**defaults, **given})


def remove_small_regions(masks: Masks, min_area: int, nms_thresh: float) -> Masks:
    """Fill holes and remove islands smaller than `min_area` pixels, then drop new duplicates.

    Masks that needed no change are preferred (`postprocess_small_regions`).
    """
    runs = [_without_small_regions(masks.dense(i), min_area) for i in range(len(masks))]
    cleaned = Masks.from_runs(
        masks.size,
        [masks.runs(i) if new is None else new for i, new in enumerate(runs)],
        predicted_iou=masks.predicted_iou,
        stability_score=masks.stability_score,
        point_coords=masks.point_coords,
        crop_boxes=masks.crop_boxes,
    )
    unchanged = np.array([new is None for new in runs], np.float32)
    boxes = np.where(unchanged[:, None] > 0, masks.boxes, cleaned.boxes)
    return replace(cleaned, boxes=boxes).select(box_nms(cleaned.boxes, unchanged, nms_thresh))


def _without_small_regions(mask: NDArray[np.bool_], min_area: int) -> Counts | None:
    """Runs of the cleaned mask, None if there was nothing to clean."""
    filled = _fill_small_holes(mask, min_area)
    cleaned = _drop_small_islands(mask if filled is None else filled, min_area)
    result = filled if cleaned is None else cleaned
    return None if result is None else encode(result)


def _fill_small_holes(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_] | None:
    regions, areas = _regions(~mask)
    small = areas < min_area
    small[0] = False
    if not small.any():
        return None
    return np.asarray(mask | small[regions])


def _drop_small_islands(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_] | None:
    regions, areas = _regions(mask)
    keep = areas >= min_area
    keep[0] = False
    if keep[1:].all():
        return None
    if not keep.any():
        keep[1 + areas[1:].argmax()] = True
    return np.asarray(keep[regions])


def _regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """8-connected regions (H, W) of a mask, 0 outside, and their areas."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(regions), np.asarray(stats[:, cv2.CC_STAT_AREA])


def _to_masks(found: Sequence[Candidate], crop: Crop, size: tuple[int, int]) -> Masks:
    return Masks.from_runs(
        size,
        [candidate.counts for candidate in found],
        boxes=np.array([candidate.box for candidate in found], np.int32).reshape(-1, 4),
        predicted_iou=np.array([c.predicted_iou for c in found], np.float32),
        stability_score=np.array([c.stability_score for c in found], np.float32),
        point_coords=np.array([c.point for c in found], np.float64).reshape(-1, 2),
        crop_boxes=np.tile(np.array(crop.box, np.int32), (len(found), 1)),
    )


def _nms_between_crops(masks: Masks, threshold: float) -> NDArray[np.intp]:
    """Masks of smaller crops win."""
    left, top, right, bottom = masks.crop_boxes.astype(np.float32).T
    return box_nms(masks.boxes, 1 / ((right - left) * (bottom - top)), threshold)


class _Counter:
    """Counts prompts over all crops."""

    def __init__(self, total: int, progress: Progress):
        self.done, self.total, self.progress = 0, total, progress

    def add(self, prompts: int) -> None:
        self.done += prompts
        self.progress(self.done, self.total)

    def skip(self, prompts: int) -> None:
        if prompts:
            self.total -= prompts
            self.progress(self.done, self.total)
