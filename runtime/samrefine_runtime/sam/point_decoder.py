"""SAM's mask decoder for point prompts: all prompts of an image see the same embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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


class PreparedImage(NamedTuple):
    """An image that is ready for prompts."""

    embedding: ImageEmbedding
    shared: Mapping[str, Any]
    """What all prompts share, by the names of the decoder graph's inputs; on the device."""


class Decoded(NamedTuple):
    """Masks of a batch of points that pass the predicted IoU."""

    logits: NDArray[np.float32]
    """(K, h, w) low-res logits."""
    scores: NDArray[np.float32]
    """(K,) predicted IoU."""
    owners: NDArray[np.int64]
    """(K,) which point of the batch each mask belongs to."""


class PointDecoder:
    """Runs `everything_image.onnx` once per image, `everything_prompts.onnx` once per batch."""

    def __init__(self, bundle: Bundle, session: SessionOptions | None = None):
        """Open the graphs. Raises BundleError or BackendError."""
        options = session or SessionOptions()
        once = replace(options, frees_memory=True)
        self._image = backends.open(bundle.graph("everything_image"), once)
        self._prompts = backends.open(bundle.graph("everything_prompts"), options)
        self.runs_on = backends.runs_on(self._image, self._prompts)

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
            np.concatenate([first.logits, second.logits]),
            np.concatenate([first.scores, second.scores]),
            np.concatenate([first.owners, second.owners + half]),
        )

    def _decode_at_once(
        self, image: PreparedImage, points: NDArray[np.float64], pred_iou_thresh: float
    ) -> Decoded:
        # The graph drops masks below the threshold before it upscales the rest
        outputs = self._prompts.run(
            {
                "point_coords": image.embedding.to_input(points),
                "pred_iou_thresh": np.array(pred_iou_thresh, np.float32),
                **image.shared,
            }
        )
        decoded = Decoded(
            logits=outputs["low_res_masks"],
            scores=outputs["iou_predictions"],
            owners=outputs["point_index"],
        )
        _check_decoded(decoded, len(points))
        return decoded


def _check_decoded(decoded: Decoded, points: int) -> None:
    """Raise InferenceError unless every mask has a score and one of the points."""
    logits, scores, owners = decoded
    is_complete = len(logits) == len(scores) == len(owners)
    if not is_complete or not ((owners >= 0) & (owners < points)).all():
        raise InferenceError(
            f"graph 'everything_prompts' gave {len(logits)} masks with {len(scores)} scores for "
            f"{len(owners)} of {points} points, or for others"
        )


def batch_size(sam: SamSpec, memory_mb: int) -> int:
    """Return how many prompts fit into memory, at least one."""
    channels, height, width = sam.embedding
    features = np.dtype(np.float32).itemsize * channels * height * width
    return max(1, int(memory_mb * 1e6 / (_FEATURE_COPIES * features)))
