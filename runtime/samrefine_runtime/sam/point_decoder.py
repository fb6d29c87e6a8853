"""SAM's mask decoder for point prompts: all prompts of an image see the same embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle, SamSpec
from samrefine_runtime.errors import InferenceError
from samrefine_runtime.sam.encoder import ImageEmbedding

_log = logging.getLogger(__name__)

_FEATURE_COPIES = 8
"""Peak memory of one prompt in copies of the image features, measured on ViT-B and MobileSAM."""

_VIEWS = ("scale", "weights", "basis", "mask_weights")
"""What `everything_tokens.onnx` knows of the prompts and `everything_masks.onnx` makes masks of."""

_FINISHED_PIXELS = 1 << 26
"""Pixels of the masks that a device finishes at once: 256 MB for each tensor of logits."""

SMALLEST_SIDE = 512
"""Side, pixels, as which smaller images count where a device finishes masks."""


class PreparedImage(NamedTuple):
    """An image that is ready for prompts."""

    embedding: ImageEmbedding
    shared: Mapping[str, Any]
    """What all prompts share, by the names of the graphs' inputs; on the device."""


class LowResMasks(NamedTuple):
    """Masks that were decoded together."""

    logits: Any
    """(S, h, w) float32 low-res logits; they stay on a device that has a memory of its own."""
    size: int
    """S."""


class Decoded(NamedTuple):
    """Masks of a batch of points that pass the predicted IoU."""

    parts: Sequence[LowResMasks]
    """The K masks, in order."""
    scores: NDArray[np.float32]
    """(K,) predicted IoU."""
    owners: NDArray[np.int64]
    """(K,) which point of the batch each mask belongs to."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """All low-res logits (K, h, w), of at least one mask, where they are arrays."""
        return np.concatenate([part.logits for part in self.parts])


class PointDecoder:
    """Runs `everything_image.onnx` once per image; `everything_tokens.onnx` and, for prompts with
    a mask that passes, `everything_masks.onnx` once per batch.
    """

    def __init__(self, bundle: Bundle, session: SessionOptions | None = None):
        """Open the graphs. Raises BundleError or BackendError."""
        options = session or SessionOptions()
        once = replace(options, frees_memory=True)
        self._image = backends.open(bundle.graph("everything_image"), once)
        self._tokens = backends.open(bundle.graph("everything_tokens"), options)
        self._masks = backends.open(bundle.graph("everything_masks"), options)
        self.runs_on = backends.runs_on(self._image, self._tokens, self._masks)

    @property
    def is_on_device(self) -> bool:
        """Whether decoded masks lie in a memory of a device's own."""
        return self._masks.is_on_device

    def prepare(self, embedding: ImageEmbedding) -> PreparedImage:
        """Compute what does not depend on the prompts."""
        # Stays on the device: every batch of prompts reads it
        shared = self._image.run_on_device({"image_embeddings": embedding.features})
        return PreparedImage(embedding, shared)

    def decode(
        self, image: PreparedImage, points: NDArray[np.float64], pred_iou_thresh: float
    ) -> Decoded:
        """Decode points into the masks whose predicted IoU is above the threshold.

        Where memory is short, one half of the points is decoded after the other.

        Args:
            image: what `prepare` returned.
            points: (N, 2) XY in the image.
            pred_iou_thresh: masks must exceed it.

        Raises:
            MemoryError: not even one point fits.
            InferenceError: the graph fails, or gives what is not finite or fits no point.
        """
        try:
            return self._decode_at_once(image, points, pred_iou_thresh)
        except MemoryError:
            if len(points) == 1:
                raise
            _log.warning("out of memory at %d prompts per batch, halving it", len(points))
        # Halves fit where the whole did not, or are halved again
        half = len(points) // 2
        first = self.decode(image, points[:half], pred_iou_thresh)
        second = self.decode(image, points[half:], pred_iou_thresh)
        return Decoded(
            [*first.parts, *second.parts],
            np.concatenate([first.scores, second.scores]),
            np.concatenate([first.owners, second.owners + half]),
        )

    def _decode_at_once(
        self, image: PreparedImage, points: NDArray[np.float64], pred_iou_thresh: float
    ) -> Decoded:
        # Decode all prompts up to their predicted IoU (N, M); the rest stays on the device
        shared = dict(image.shared)
        upscaling = shared.pop("upscaling")
        coords = {"point_coords": image.embedding.to_input(points)}
        decoded = self._tokens.run_on_device({**coords, **shared}, fetch=["iou_predictions"])
        iou = decoded["iou_predictions"]
        if len(iou) != len(points):
            raise InferenceError(
                f"graph 'everything_tokens' gave scores of {len(iou)} points, expected of "
                f"{len(points)}"
            )
        # Filter by predicted IoU, before anything is paid for a mask's pixels
        is_kept = iou > np.float32(pred_iou_thresh)
        chosen = np.flatnonzero(is_kept)
        # A device finishes as many masks at once as fit into its memory
        image_shape = image.embedding.image_shape
        most = masks_at_once(image_shape) if self.is_on_device else iou.size
        steps = range(0, len(chosen), most)
        feeds = {"upscaling": upscaling, **{name: decoded[name] for name in _VIEWS}}
        parts = [
            self._low_res(feeds, part, iou.shape[1])
            for part in (chosen[start : start + most] for start in steps)
        ]
        return Decoded(parts, iou[is_kept], np.nonzero(is_kept)[0])

    def _low_res(
        self, feeds: Mapping[str, Any], chosen: NDArray[np.intp], per_prompt: int
    ) -> LowResMasks:
        """Upscale some masks.

        Args:
            feeds: what the graph takes beside its choice.
            chosen: (S,) indices among the masks of all prompts, ascending.
            per_prompt: masks of a prompt, M.
        """
        # A prompt's masks are upscaled together; K prompts have one that was chosen
        prompts, place = np.unique(chosen // per_prompt, return_inverse=True)
        masks = place * per_prompt + chosen % per_prompt
        choice = {"prompt": prompts.astype(np.int64), "mask": masks.astype(np.int64)}
        if self.is_on_device:
            outputs = self._masks.run_on_device({**feeds, **choice})
            return LowResMasks(outputs["low_res_masks"], len(chosen))
        logits = self._masks.run({**feeds, **choice})["low_res_masks"]
        if len(logits) != len(chosen):
            raise InferenceError(
                f"graph 'everything_masks' gave {len(logits)} masks, expected {len(chosen)}"
            )
        return LowResMasks(logits, len(chosen))


def masks_at_once(image_shape: tuple[int, int]) -> int:
    """Return how many masks of an image (H, W) a device finishes at once, at least one.

    Sides count as the next power of two, so that engines need few profiles of shapes.
    """
    side = max(SMALLEST_SIDE, 1 << (max(image_shape) - 1).bit_length())
    return max(1, _FINISHED_PIXELS // side**2)


def batch_size(sam: SamSpec, memory_mb: int) -> int:
    """Return how many prompts fit into memory, at least one."""
    channels, height, width = sam.embedding
    features = np.dtype(np.float32).itemsize * channels * height * width
    return max(1, int(memory_mb * 1e6 / (_FEATURE_COPIES * features)))
