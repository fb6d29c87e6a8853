"""SAM's mask decoder for point prompts: all of a photo's prompts see one image."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.ort import Backend, OrtSession
from samrefine_runtime.bundle import Bundle, SamImage
from samrefine_runtime.sam.encoder import ImageEmbedding

_log = logging.getLogger(__name__)


class PromptedImage(NamedTuple):
    """A photo that is ready for prompts."""

    embedding: ImageEmbedding
    shared: Mapping[str, Any]
    """what all prompts share, by the names the decoder's graph has for it"""


class Decoded(NamedTuple):
    """Masks of a batch of points that pass the predicted IoU."""

    logits: NDArray[np.float32]
    """(K, h, w) low-res logits"""
    scores: NDArray[np.float32]
    """(K,) predicted IoU"""
    owners: NDArray[np.int64]
    """(K,) which point of the batch each mask belongs to"""


class PointDecoder:
    """Runs `everything_image.onnx` once a photo and `everything_prompts.onnx` once a batch."""

    def __init__(self, bundle: Bundle, *, backend: Backend = "auto", threads: int | None = None):
        image, prompts = (bundle.graph(f"everything_{part}").path for part in ("image", "prompts"))
        self._image = OrtSession(image, backend=backend, threads=threads, frees_memory=True)
        self._prompts = OrtSession(prompts, backend=backend, threads=threads)

    def prepare(self, embedding: ImageEmbedding) -> PromptedImage:
        """What does not depend on the prompts."""
        shared = self._image.keep({"image_embeddings": embedding.features})
        return PromptedImage(embedding, shared)

    def decode(
        self, image: PromptedImage, points: NDArray[np.float64], pred_iou_thresh: float
    ) -> Decoded:
        """Masks of points (N, 2) XY in the photo whose predicted IoU is above the threshold.
        Where memory is short, of one half of the points after the other.

        Raises:
            MemoryError: not even one point fits.
        """
        try:
            return self._decode_at_once(image, points, pred_iou_thresh)
        except MemoryError:
            if len(points) == 1:
                raise
            _log.warning("out of memory at %d prompts a batch, halving it", len(points))
        half = len(points) // 2
        first = self.decode(image, points[:half], pred_iou_thresh)
        second = self.decode(image, points[half:], pred_iou_thresh)
        return Decoded(
            np.concatenate([first.logits, second.logits]),
            np.concatenate([first.scores, second.scores]),
            np.concatenate([first.owners, second.owners + half]),
        )

    def _decode_at_once(
        self, image: PromptedImage, points: NDArray[np.float64], pred_iou_thresh: float
    ) -> Decoded:
        outputs = self._prompts.run(
            {
                "point_coords": image.embedding.to_input(points),
                "pred_iou_thresh": np.array(pred_iou_thresh, np.float32),
                **image.shared,
            }
        )
        names = ("low_res_masks", "iou_predictions", "point_index")
        return Decoded(*(outputs[name] for name in names))


def batch_size(sam: SamImage, memory_mb: int) -> int:
    """Prompts that fit: measured, one takes about eight times its copy of the image features."""
    channels, height, width = sam.embedding
    return max(1, int(memory_mb * 1e6 / (8 * 4 * channels * height * width)))
