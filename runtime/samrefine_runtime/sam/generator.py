"""Everything mode: all masks of an image from a grid of point prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.arguments import (
    BundleLike,
    ImageLike,
    LabelLike,
    Progress,
    as_bundle,
    as_image,
    as_label,
    as_progress,
    as_session,
)
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.checks import as_array
from samrefine_runtime.image import RgbImage
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.masks.nms import box_nms
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.masks.small_regions import remove_small_regions
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.grids import Crop, Points, crops, touches_crop_edge
from samrefine_runtime.sam.mask_finish import DeviceFinish, Finish, FinishedMask, HostFinish
from samrefine_runtime.sam.point_decoder import Decoded, PointDecoder, PreparedImage, batch_size
from samrefine_runtime.sam.prompts import PROMPT_MODES, points_in, prompt_region, uncovered
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import settings_of


class MaskGenerator:
    """SamAutomaticMaskGenerator without torch: the same parameters, masks and order.

    Settings come from the keywords, then from the bundle's own defaults, then from SAM's.
    """

    def __init__(
        self,
        bundle: BundleLike,
        points_per_side: int | None = None,
        *,
        session: SessionOptions | Mapping[str, Any] | None = None,
        **settings: Any,
    ):
        """Open the bundle's graphs.

        Args:
            bundle: holds SAM; a Bundle, its folder, or "demo".
            points_per_side: see GeneratorSettings.
            session: how the graphs are run, or a dict of fields; None for SessionOptions().
            settings: any field of GeneratorSettings.

        Raises:
            SettingsError: an unknown or impossible setting.
            BundleError: the bundle has no SAM.
            BackendError: no backend here can run the graphs.
        """
        if points_per_side is not None:
            settings["points_per_side"] = points_per_side
        bundle, session = as_bundle(bundle), as_session(session)
        self.settings = GeneratorSettings.of(bundle, **settings)
        self.sam = bundle.require_sam()
        self.encoder = ImageEncoder(bundle, session)
        self.decoder = PointDecoder(bundle, session)
        # Where the host would have to fetch the logits first, the device finishes the masks
        self._finish = (
            backends.open(bundle.graph("everything_finish"), session or SessionOptions())
            if self.decoder.is_on_device
            else None
        )
        self.runs_on = {**self.encoder.runs_on, **self.decoder.runs_on}
        self._configure()

    def with_settings(self, **settings: Any) -> MaskGenerator:
        """Return a generator with some settings changed that runs the same open graphs.

        Args:
            settings: any field of GeneratorSettings, over the settings of this generator.

        Raises:
            SettingsError: an unknown or impossible setting.
        """
        changed = copy(self)
        changed.settings = settings_of(GeneratorSettings, settings, vars(self.settings))
        changed._configure()
        return changed

    def _configure(self) -> None:
        """Derive from the settings what does not depend on the image."""
        self._rounds = [
            PROMPT_MODES[self.settings.prompts].rounds(grid) for grid in self.settings.grids()
        ]
        memory_mb = self.settings.memory_mb
        self._batch_size = (
            self.settings.points_per_batch if memory_mb is None else batch_size(self.sam, memory_mb)
        )

    def generate(
        self,
        image: ImageLike,
        *,
        pseudo_label: LabelLike | None = None,
        region: NDArray[np.bool_] | None = None,
        progress: Progress | None = None,
    ) -> Masks:
        """Find all masks of an image.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            pseudo_label: (H, W) uint8 or a label PNG; needed by prompt modes that look near it,
                else not used.
            region: (H, W) bool, where points may be asked; None for what the prompt mode says.
            progress: called with (prompts done, prompts in all) after every batch of prompts.

        Returns:
            Masks in the order of SamAutomaticMaskGenerator: by predicted IoU within a crop, small
            crops first.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            LabelError: the pseudo label is not (H, W) uint8.
            SettingsError: the region is not bool of the image's shape, or the prompt mode needs
                a pseudo label that is not given.
            InferenceError: a graph fails, or gives what is not finite.
            MemoryError: not even one prompt fits into memory.
        """
        settings, image, step = self.settings, as_image(image), as_progress(progress)
        image_shape = image.shape[:2]
        label = None if pseudo_label is None else as_label(pseudo_label, "pseudo label")
        if region is None:
            region = prompt_region(settings.prompts, label, image_shape)
        else:
            expected = f"{image_shape} (H, W) bool"
            region = as_array(region, "region", expected, image_shape, kinds="b")
        # Choose the prompts of every crop
        places = crops(image_shape, settings.crop_n_layers, settings.crop_overlap_ratio)
        rounds = [
            [points_in(crop, grid, region) for grid in self._rounds[crop.layer]] for crop in places
        ]
        # Find the masks of every crop
        counter = _Counter(sum(len(points) for crop in rounds for points in crop), step)
        parts = [
            self._masks_of_crop(image, crop, points, counter)
            for crop, points in zip(places, rounds, strict=True)
        ]
        masks = Masks.concatenate(parts)
        # Remove duplicates between crops, then small regions
        if len(places) > 1:
            masks = masks.select(_nms_between_crops(masks, settings.crop_nms_thresh))
        if settings.min_mask_region_area > 0:
            nms_thresh = max(settings.box_nms_thresh, settings.crop_nms_thresh)
            masks = remove_small_regions(masks, settings.min_mask_region_area, nms_thresh)
        return masks

    def records(self, image: ImageLike) -> list[dict[str, Any]]:
        """Return what `SamAutomaticMaskGenerator.generate` does, in the settings' output_mode."""
        return self.generate(image).to_records(self.settings.output_mode)

    def _masks_of_crop(
        self, image: RgbImage, crop: Crop, rounds: Sequence[Points], counter: _Counter
    ) -> Masks:
        """Ask round by round; a round skips the points that masks found so far cover."""
        image_shape = image.shape[:2]
        left, top, right, bottom = crop.box
        found: list[Candidate] = []
        masks = _to_masks(found, crop, image_shape)
        if not any(map(len, rounds)):
            return masks  # spares the encoder
        # Encode the crop, once for all its prompts
        prepared = self.decoder.prepare(self.encoder.embed(image[top:bottom, left:right]))
        for points in rounds:
            # Ask at the points that no mask of an earlier round covers
            asked = uncovered(points, crop, masks)
            counter.skip(len(points) - len(asked))
            found += self._candidates(prepared, crop, image_shape, asked, counter)
            # Remove duplicates among the masks of all rounds so far, not of this one alone
            masks = self._deduplicate(found, crop, image_shape)
        return masks

    def _candidates(
        self,
        prepared: PreparedImage,
        crop: Crop,
        image_shape: tuple[int, int],
        points: Points,
        counter: _Counter,
    ) -> Iterator[Candidate]:
        """Decode points batch by batch into masks that pass predicted IoU and stability."""
        finish = self._finish_of(crop, image_shape)
        for batch, decoded in self._decode_ahead(prepared, points):
            # Resample to the image, threshold, and measure stability in one pass
            masks = chain.from_iterable(map(finish, decoded.parts))
            for mask, score, owner in zip(masks, decoded.scores, decoded.owners, strict=True):
                # Filter by stability score
                if self._is_stable(mask.stability_score):
                    yield Candidate(mask, mask.box, score, batch[owner] + crop.box[:2])
            counter.add(len(batch))

    def _finish_of(self, crop: Crop, image_shape: tuple[int, int]) -> Finish:
        """Return what makes masks of the image from the logits of a crop."""
        sam, offset = self.sam, self.settings.stability_score_offset
        resampler = MaskResampler(sam.low_res_shape, sam.input_side, crop.box, image_shape)
        if self._finish is None:
            return HostFinish(resampler, sam.mask_threshold, offset)
        return DeviceFinish(self._finish, resampler, sam.mask_threshold, offset)

    def _decode_ahead(
        self, prepared: PreparedImage, points: Points
    ) -> Iterator[tuple[Points, Decoded]]:
        """Decode batches of points; the next one is decoded while one's masks are handled."""
        threshold = self.settings.pred_iou_thresh
        # The reference does not filter at 0, where a predicted IoU may be negative
        least = threshold if threshold > 0 else -np.inf
        step = self._batch_size
        batches = [points[start : start + step] for start in range(0, len(points), step)]
        if not batches:
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = pool.submit(self.decoder.decode, prepared, batches[0], least)
            for index, batch in enumerate(batches):
                decoded = coming.result()
                if index + 1 < len(batches):
                    coming = pool.submit(self.decoder.decode, prepared, batches[index + 1], least)
                yield batch, decoded

    def _is_stable(self, score: float) -> bool:
        threshold = self.settings.stability_score_thresh
        # In float32, as the reference compares
        return threshold <= 0 or bool(np.float32(score) >= np.float32(threshold))

    def _deduplicate(
        self, found: Sequence[Candidate], crop: Crop, image_shape: tuple[int, int]
    ) -> Masks:
        """Return the masks that the crop does not cut off, without duplicates, best first.

        Duplicates are found from boxes before run lengths are joined: what is dropped is never
        copied.
        """
        boxes = np.array([candidate.box for candidate in found], np.int32).reshape(-1, 4)
        scores = np.array([candidate.predicted_iou for candidate in found], np.float32)
        whole = np.flatnonzero(~touches_crop_edge(boxes, crop, image_shape))
        keep = whole[box_nms(boxes[whole], scores[whole], self.settings.box_nms_thresh)]
        return _to_masks([found[i] for i in keep], crop, image_shape)


class Candidate(NamedTuple):
    """A mask before duplicates are removed."""

    mask: FinishedMask
    box: tuple[int, int, int, int]
    """XYXY pixels of the image, right and bottom inclusive."""
    predicted_iou: float
    point: NDArray[np.float64]
    """(2,) XY in the image."""


def _to_masks(found: Sequence[Candidate], crop: Crop, image_shape: tuple[int, int]) -> Masks:
    return Masks.from_runs(
        image_shape,
        [candidate.mask.counts for candidate in found],
        boxes=np.array([candidate.box for candidate in found], np.int32).reshape(-1, 4),
        predicted_iou=np.array([c.predicted_iou for c in found], np.float32),
        stability_score=np.array([c.mask.stability_score for c in found], np.float32),
        point_coords=np.array([c.point for c in found], np.float64).reshape(-1, 2),
        crop_boxes=np.tile(np.array(crop.box, np.int32), (len(found), 1)),
    )


def _nms_between_crops(masks: Masks, threshold: float) -> NDArray[np.intp]:
    """Find which masks stay, those of smaller crops winning, as the reference has it."""
    left, top, right, bottom = masks.crop_boxes.astype(np.float32).T
    return box_nms(masks.boxes, 1 / ((right - left) * (bottom - top)), threshold)


class _Counter:
    """Counts prompts over all crops."""

    def __init__(self, total: int, progress: Progress):
        self.done, self.total, self.progress = 0, total, progress

    def add(self, prompts: int) -> None:
        """Count prompts as done."""
        self.done += prompts
        self.progress(self.done, self.total)

    def skip(self, prompts: int) -> None:
        """Take prompts that need not be asked off the total."""
        if prompts:
            self.total -= prompts
            self.progress(self.done, self.total)
