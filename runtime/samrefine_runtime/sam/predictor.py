"""Masks for given prompts: points, boxes and earlier masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.image import RgbImage
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.encoder import ImageEmbedding, ImageEncoder
from samrefine_runtime.sam.grids import whole_image

Floats = NDArray[np.float32]

# The values of point_labels that SAM's prompt encoder knows, beside 0 and 1
_BOX_CORNERS = (2.0, 3.0)
_PADDING = -1.0


class Predictor:
    """SamPredictor without torch: `set_image` once, then any number of prompts."""

    def __init__(self, bundle: Bundle, *, session: SessionOptions | None = None):
        """Open the bundle's graphs. Raises BundleError or BackendError."""
        self.sam = bundle.require_sam()
        self.encoder = ImageEncoder(bundle, session)
        self._decoder = backends.open(bundle.graph("decoder"), session or SessionOptions())
        self._embedding: ImageEmbedding | None = None

    @property
    def mask_threshold(self) -> float:
        """The logit above which a pixel belongs to the mask."""
        return self.sam.mask_threshold

    def set_image(self, image: RgbImage) -> None:
        """Encode an image (H, W, 3) uint8 RGB; later predictions are about it.

        Raises ImageError.
        """
        self._embedding = self.encoder.embed(image)

    def get_image_embedding(self) -> Floats:
        """Return the image embedding (1, C, h, w). Raises SettingsError before `set_image`."""
        return self._current().features

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: Floats | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[np.bool_] | Floats, Floats, Floats]:
        """Predict the masks of one prompt, as `SamPredictor.predict`.

        Args:
            point_coords: (K, 2) XY pixels of the image.
            point_labels: (K,) 1 foreground, 0 background.
            box: (4,) or (1, 4) XYXY pixels of the image.
            mask_input: (1, h, w) low-res logits of an earlier prediction.
            multimask_output: three masks for an ambiguous prompt, else one.
            return_logits: logits instead of masks.

        Returns:
            Masks (M, H, W) bool (or float32 logits), predicted IoU (M,) and low-res logits
            (M, h, w), which may serve as mask_input.

        Raises:
            SettingsError: no image is set, or a prompt has another shape.
        """
        low_res, scores = self.predict_low_res(
            None if point_coords is None else np.asarray(point_coords, np.float64)[None],
            None if point_labels is None else np.asarray(point_labels, np.float64)[None],
            None if box is None else np.asarray(box, np.float64).reshape(1, -1),
            None if mask_input is None else mask_input[None],
            multimask_output,
        )
        # The one prompt of the batch, at the image's size
        logits = self.to_image(low_res[0])
        masks = logits if return_logits else logits > self.mask_threshold
        return masks, scores[0], low_res[0]

    def predict_low_res(
        self,
        point_coords: NDArray[np.float64] | None = None,
        point_labels: NDArray[np.float64] | None = None,
        boxes: NDArray[np.float64] | None = None,
        mask_input: Floats | None = None,
        multimask_output: bool = True,
    ) -> tuple[Floats, Floats]:
        """Predict low-res logits (N, M, h, w) and predicted IoU (N, M) of N prompts at once.

        Args:
            point_coords: (N, K, 2) XY pixels of the image.
            point_labels: (N, K).
            boxes: (N, 4) XYXY.
            mask_input: (N, 1, h, w) low-res logits.
            multimask_output: M is 3, else 1.
        """
        embedding = self._current()
        # A box is two points to the decoder, and a prompt without a mask says so in a flag
        coords, labels = _prompts(point_coords, point_labels, boxes, mask_input)
        masks = self._mask_prompts(mask_input, len(coords))
        outputs = self._decoder.run(
            {
                "image_embeddings": embedding.features,
                "point_coords": embedding.to_input(coords),
                "point_labels": labels.astype(np.float32),
                "mask_input": masks,
                "has_mask_input": np.full(len(coords), mask_input is not None, np.float32),
            }
        )
        # The first mask is the single one, the others those for ambiguous prompts
        kept = slice(1, None) if multimask_output else slice(0, 1)
        return outputs["low_res_masks"][:, kept], outputs["iou_predictions"][:, kept]

    def to_image(self, low_res: Floats) -> Floats:
        """Resample low-res logits (M, h, w) to the image, (M, H, W)."""
        embedding = self._current()
        box = whole_image(embedding.image_shape).box
        resampler = MaskResampler(
            low_res.shape[1:], embedding.input_side, box, embedding.image_shape
        )
        return np.stack([resampler.logits(mask) for mask in low_res])

    def _current(self) -> ImageEmbedding:
        if self._embedding is None:
            raise SettingsError("no image is set: call set_image first")
        return self._embedding

    def _mask_prompts(self, mask_input: Floats | None, prompts: int) -> Floats:
        shape = (prompts, 1, *self.sam.low_res_shape)
        if mask_input is None:
            return np.zeros(shape, np.float32)
        if mask_input.shape != shape:
            raise SettingsError(f"mask_input is {mask_input.shape}, expected {shape}")
        return mask_input.astype(np.float32)


def _prompts(
    coords: NDArray[np.float64] | None,
    labels: NDArray[np.float64] | None,
    boxes: NDArray[np.float64] | None,
    mask_input: Floats | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Combine prompts into points (N, K, 2) and labels (N, K) in SAM's order.

    Points come first, then the box's corners, or one padding point where there is no box.
    """
    prompts = _count(coords, labels, boxes, mask_input)
    parts = [(np.zeros((prompts, 0, 2)), np.zeros((prompts, 0)))]
    if coords is not None and labels is not None:
        parts.append((coords, labels))
    if boxes is not None:
        parts.append((boxes.reshape(prompts, 2, 2), np.tile(_BOX_CORNERS, (prompts, 1))))
    elif coords is not None:
        parts.append((np.zeros((prompts, 1, 2)), np.full((prompts, 1), _PADDING)))
    points, kinds = zip(*parts, strict=True)
    return np.concatenate(points, axis=1), np.concatenate(kinds, axis=1)


def _count(
    coords: NDArray[np.float64] | None,
    labels: NDArray[np.float64] | None,
    boxes: NDArray[np.float64] | None,
    mask_input: Floats | None,
) -> int:
    """Return the number of prompts. Raises SettingsError where shapes disagree."""
    if (coords is None) != (labels is None):
        raise SettingsError("point_coords and point_labels must be given together")
    if (
        coords is not None
        and labels is not None
        and (labels.ndim != 2 or coords.shape != (*labels.shape, 2))
    ):
        raise SettingsError(
            f"points are {coords.shape} with labels {labels.shape}, expected (N, K, 2) and (N, K)"
        )
    if boxes is not None and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise SettingsError(f"boxes are {boxes.shape}, expected (N, 4)")
    counts = {len(part) for part in (coords, boxes, mask_input) if part is not None}
    if len(counts) > 1:
        raise SettingsError(f"prompt counts disagree: {sorted(counts)}")
    return counts.pop() if counts else 1
