"""Masks for given prompts: points, boxes and earlier masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samrefine_runtime import backends
from samrefine_runtime.arguments import BundleLike, ImageLike, as_bundle, as_image, as_session
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.checks import Shape, as_array
from samrefine_runtime.errors import InferenceError, SettingsError
from samrefine_runtime.image import ImageShape
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.sam.encoder import ImageEmbedding, ImageEncoder, as_encoder
from samrefine_runtime.sam.grids import whole_image
from samrefine_runtime.settings import Domain

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# The values of point_labels that SAM's prompt encoder knows
_BACKGROUND, _FOREGROUND = 0.0, 1.0
_BOX_CORNERS = (2.0, 3.0)
_PADDING = -1.0
_POINT_LABELS = (_BACKGROUND, _FOREGROUND, *_BOX_CORNERS, _PADDING)


class Predictor:
    """SamPredictor without torch: `set_image` once, then any number of prompts."""

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
        bundle, session = as_bundle(bundle), as_session(session)
        self.sam = bundle.require_sam()
        shared = as_encoder(encoder)
        self.encoder = ImageEncoder(bundle, session) if shared is None else shared
        self._decoder = backends.open(bundle.graph("decoder"), session)
        self._embedding: ImageEmbedding | None = None
        self.runs_on = {**self.encoder.runs_on, **backends.runs_on(self._decoder)}

    @property
    def mask_threshold(self) -> float:
        """The logit above which a pixel belongs to the mask."""
        return self.sam.mask_threshold

    def set_image(self, image: ImageLike) -> None:
        """Encode an image; later predictions are about it.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            InferenceError: the graph fails, or its embedding is not finite.
        """
        self._embedding = self.encoder.embed(as_image(image))

    def get_image_embedding(self) -> Floats:
        """Return the image embedding (1, C, h, w). Raises SettingsError before `set_image`."""
        return self._current().features

    @overload
    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: Literal[False] = False,
    ) -> tuple[NDArray[np.bool_], Floats, Floats]: ...
    @overload
    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        *,
        return_logits: Literal[True],
    ) -> tuple[Floats, Floats, Floats]: ...
    @overload
    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[np.bool_] | Floats, Floats, Floats]: ...
    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[np.bool_] | Floats, Floats, Floats]:
        """Predict the masks of one prompt, as `SamPredictor.predict`.

        Arrays may be lists of numbers.

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
            SettingsError: no image is set, a prompt has another shape, or values that are not
                finite numbers.
        """
        Domain(bool).check("return_logits", return_logits)
        low_res, scores = self.predict_logits(
            point_coords, point_labels, box, mask_input, multimask_output
        )
        resampled = self._resampled(low_res)
        masks = resampled if return_logits else resampled > self.mask_threshold
        return masks, scores, low_res

    def predict_logits(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> tuple[Floats, Floats]:
        """Predict low-res logits (M, h, w) and predicted IoU (M,) of one prompt, as `predict`.

        Raises:
            SettingsError: as for `predict`.
        """
        h, w = self.sam.low_res_shape
        points = _numbers(point_coords, "point_coords", "(K, 2) XY pixels", (None, 2))
        labels = _numbers(point_labels, "point_labels", "(K,) of 0 and 1", (None,), kinds="biuf")
        corners = _numbers(box, "box", "(4,) or (1, 4) XYXY pixels", (4,), (1, 4))
        logits = _numbers(mask_input, "mask_input", f"(1, {h}, {w}) logits", (1, h, w))
        low_res, scores = self._decode(
            None if points is None else points[None],
            None if labels is None else labels[None],
            None if corners is None else corners.reshape(1, 4),
            None if logits is None else logits[None],
            multimask_output,
        )
        # The one prompt of the batch
        return low_res[0], scores[0]

    def predict_low_res(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> tuple[Floats, Floats]:
        """Predict low-res logits (N, M, h, w) and predicted IoU (N, M) of N prompts at once.

        Arrays may be lists of numbers.

        Args:
            point_coords: (N, K, 2) XY pixels of the image.
            point_labels: (N, K) 1 foreground, 0 background, -1 SAM's padding, for prompts
                of fewer points than others.
            boxes: (N, 4) XYXY pixels of the image.
            mask_input: (N, 1, h, w) low-res logits.
            multimask_output: M is 3, else 1.

        Raises:
            SettingsError: as for `predict`, or the numbers of prompts disagree.
        """
        h, w = self.sam.low_res_shape
        return self._decode(
            _numbers(point_coords, "point_coords", "(N, K, 2) XY pixels", (None, None, 2)),
            _numbers(point_labels, "point_labels", "(N, K) labels", (None, None), kinds="biuf"),
            _numbers(boxes, "boxes", "(N, 4) XYXY pixels", (None, 4)),
            _numbers(mask_input, "mask_input", f"(N, 1, {h}, {w}) logits", (None, 1, h, w)),
            multimask_output,
        )

    def _decode(
        self,
        coords: Doubles | None,
        labels: Doubles | None,
        boxes: Doubles | None,
        mask_input: Doubles | None,
        multimask_output: bool,
    ) -> tuple[Floats, Floats]:
        """Run the decoder as `predict_low_res` does, on prompts of the right ranks."""
        Domain(bool).check("multimask_output", multimask_output)
        embedding = self._current()
        # A box is two points to the decoder, and a prompt without a mask says so in a flag
        points, kinds = _prompts(coords, labels, boxes, mask_input)
        prompts = len(points)
        no_masks = np.zeros((prompts, 1, *self.sam.low_res_shape), np.float32)
        outputs = self._decoder.run(
            {
                "image_embeddings": embedding.features,
                "point_coords": embedding.to_input(points),
                "point_labels": kinds.astype(np.float32),
                "mask_input": no_masks if mask_input is None else mask_input.astype(np.float32),
                "has_mask_input": np.full(prompts, mask_input is not None, np.float32),
            }
        )
        low_res, scores = outputs["low_res_masks"], outputs["iou_predictions"]
        if not len(low_res) == len(scores) == prompts:
            raise InferenceError(
                f"graph 'decoder' gave masks of {len(low_res)} prompts and scores of "
                f"{len(scores)}, expected {prompts}"
            )
        # The first mask is the single one, the others those for ambiguous prompts
        kept = slice(1, None) if multimask_output else slice(0, 1)
        return low_res[:, kept], scores[:, kept]

    def to_image(self, low_res: ArrayLike) -> Floats:
        """Resample low-res logits (M, h, w) to the image, (M, H, W) float32.

        Raises SettingsError before `set_image`, and for another shape.
        """
        h, w = self.sam.low_res_shape
        logits = as_array(low_res, "low_res", f"(M, {h}, {w}) logits", (None, h, w))
        return self._resampled(logits.astype(np.float32, copy=False))

    @property
    def image_shape(self) -> ImageShape:
        """The (H, W) of the image. Raises SettingsError before `set_image`."""
        return self._current().image_shape

    def resampler(self) -> MaskResampler:
        """Return what resamples low-res logits to the image. Raises SettingsError without one."""
        embedding = self._current()
        box = whole_image(embedding.image_shape).box
        shape = self.sam.low_res_shape
        return MaskResampler(shape, embedding.input_side, box, embedding.image_shape)

    def _resampled(self, low_res: Floats) -> Floats:
        resampler = self.resampler()
        resampled = np.empty((len(low_res), *self.image_shape), np.float32)
        for source, target in zip(low_res, resampled, strict=True):
            target[:] = resampler.logits(source)
        return resampled

    def _current(self) -> ImageEmbedding:
        if self._embedding is None:
            raise SettingsError("no image is set: call set_image first")
        return self._embedding


def _numbers(
    value: ArrayLike | None, name: str, expected: str, *shapes: Shape, kinds: str = "iuf"
) -> Doubles | None:
    """Return a prompt as float64, None where it is not given. Raises SettingsError."""
    if value is None:
        return None
    return as_array(value, name, expected, *shapes, kinds=kinds).astype(np.float64)


def _prompts(
    coords: Doubles | None,
    labels: Doubles | None,
    boxes: Doubles | None,
    mask_input: Doubles | None,
) -> tuple[Doubles, Doubles]:
    """Combine prompts into points (N, K, 2) and labels (N, K) in SAM's order.

    Points come first, then the box's corners, or one padding point where there is no box.
    """
    _check_points(coords, labels)
    prompts = _count(point_coords=coords, boxes=boxes, mask_input=mask_input)
    parts = [(np.zeros((prompts, 0, 2)), np.zeros((prompts, 0)))]
    if coords is not None and labels is not None:
        parts.append((coords, labels))
    if boxes is not None:
        parts.append((boxes.reshape(prompts, 2, 2), np.tile(_BOX_CORNERS, (prompts, 1))))
    elif coords is not None:
        parts.append((np.zeros((prompts, 1, 2)), np.full((prompts, 1), _PADDING)))
    points, kinds = zip(*parts, strict=True)
    return np.concatenate(points, axis=1), np.concatenate(kinds, axis=1)


def _check_points(coords: Doubles | None, labels: Doubles | None) -> None:
    """Raise SettingsError unless every point has a label that SAM knows."""
    if (coords is None) != (labels is None):
        raise SettingsError("point_coords and point_labels must be given together")
    if coords is None or labels is None:
        return
    if coords.shape[:-1] != labels.shape:
        raise SettingsError(
            f"point_coords is {coords.shape} with point_labels {labels.shape}, expected (N, K, 2) "
            "and (N, K)"
        )
    if not np.isin(labels, _POINT_LABELS).all():
        raise SettingsError(
            f"point_labels has {labels.min():g} to {labels.max():g}, expected 1 for foreground "
            "and 0 for background"
        )


def _count(**prompts: Doubles | None) -> int:
    """Return the number of prompts, one where none is given. Raises SettingsError."""
    counts = {name: len(part) for name, part in prompts.items() if part is not None}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise SettingsError(f"prompts are {found}, expected one number")
    return next(iter(counts.values()), 1)
