"""Class activation maps (CAM) of an image, and the pseudo label made of them.

The multi-scale scheme is IRN's (Ahn et al., "Weakly Supervised Learning of Instance Segmentation
with Inter-pixel Relations", 2019, step/make_cam.py); the label is its eval_cam.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from samrefine_runtime import backends
from samrefine_runtime.arguments import (
    BundleLike,
    ImageLabelsLike,
    ImageLike,
    as_bundle,
    as_image,
    as_image_labels,
    as_session,
    as_settings,
)
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import CamSpec
from samrefine_runtime.checks import as_array
from samrefine_runtime.errors import InferenceError, LabelError, SettingsError
from samrefine_runtime.image import ImageShape, RgbImage
from samrefine_runtime.labels import MAX_CLASS, LabelMap
from samrefine_runtime.settings import Domain, Settings, real, settings_of, switch, whole

_EPSILON = np.float32(1e-5)
"""Added to a map's maximum before the division, as IRN does."""

_MAX_SCALE = 8
"""Largest scale accepted: memory grows with its square."""

_MAX_SCALES = 64
"""Most scales accepted: IRN has 4, each takes its time."""

_MAX_SIDE = 1 << 15
"""Longest side accepted, pixels: no image that is read has more in both directions."""

_MAX_BYTE = np.float32(255)
"""Largest value of a pixel; the classifier's mean and std are for values 0 to 1."""


@dataclass(frozen=True)
class CamSettings(Settings):
    """Settings of the activation maps and of the pseudo label; the defaults are IRN's."""

    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    """Scales at which the image is classified, as factors of its size; above 0, at most 8."""
    flip: bool = switch(True)
    """Whether each scale is also run on the horizontally flipped image."""
    normalise: bool = switch(True)
    """Whether each map is divided by its maximum, which makes activations of any size comparable.
    False for a network whose maps are probabilities and comparable as they are: they are averaged
    over all scales and flips instead."""
    background_score: float = real(
        0.15, 0, 1, help="Minimum score of a class's CAM, which is 0 to 1."
    )
    """Score that a class map must exceed, 0 to 1, beside the network's own background map if it has
    one; IRN 0.15, PSA 0.2, ReCAM 0.21, AMN 0.25, SEAM 0.26, NACLIP 0.1 of a probability."""
    presence_threshold: float = real(
        0.5, 0, 1, help="Minimum probability of a predicted class, 0 to 1."
    )
    """Probability above which a class is predicted to be in the image, 0 to 1."""
    always_one_class: bool = switch(
        True, flag="--allow-empty", help="Let an image have no predicted class at all."
    )
    """Whether the likeliest class is predicted even if none exceeds the threshold."""
    max_side: int | None = whole(1024, 1, _MAX_SIDE, is_optional=True)
    """Longer side, pixels, to which larger images are reduced first; None: never (IRN). It bounds
    memory and time, and keeps objects near the size that classifiers are trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # JSON has lists: store a tuple all the same, past the frozen dataclass
        scales = as_array(self.scales, "scales", "a list of numbers", (None,), is_finite=False)
        object.__setattr__(self, "scales", tuple(map(float, scales)))
        if not 0 < len(self.scales) <= _MAX_SCALES or not all(
            0 < scale <= _MAX_SCALE for scale in self.scales
        ):
            raise SettingsError(
                f"scales is {self.scales[:_MAX_SCALES]}, expected 1 to {_MAX_SCALES} numbers above "
                f"0, at most {_MAX_SCALE}"
            )

    @classmethod
    def of(cls, bundle: BundleLike, **given: Any) -> CamSettings:
        """Combine given settings with the bundle's defaults for its classifier, then IRN's.

        Raises:
            SettingsError: an unknown name, or a value out of range.
        """
        cam = as_bundle(bundle).manifest.get("cam") or {}
        return settings_of(cls, given, cam.get("defaults", {}))


@dataclass(frozen=True, eq=False, repr=False)
class CamResult:
    """Activation maps of the classes in one image."""

    classes: NDArray[np.int64]
    """Label values (K,) of the classes assumed to be in the image, ascending; 1 is the first class.
    For an image without any class K is 0, and its label is all background."""
    low_res_maps: NDArray[np.float32]
    """Maps (K, h, w), 0 to 1, each divided by its maximum if `CamSettings.normalise` says so, in
    the shape that was classified."""
    low_res_background: float | NDArray[np.float32]
    """Score that a map must exceed: a constant, or the network's own background map (h, w), which
    is nowhere below `CamSettings.background_score`."""
    probabilities: NDArray[np.float32]
    """Probability (C,) of every class of the network, 0 to 1."""
    image_shape: ImageShape
    """(H, W) of the image, pixels."""

    def __repr__(self) -> str:
        return f"CamResult(classes={self.classes.tolist()}, image_shape={self.image_shape})"

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """Maps (K, H, W) in the shape of the image, 0 to 1.

        They are enlarged when they are first asked for, and kept: 4 bytes per pixel and class.
        """
        return resize_maps(self.low_res_maps, self.image_shape)

    @cached_property
    def background(self) -> float | NDArray[np.float32]:
        """Score that a map must exceed: a constant, or a map (H, W), see `low_res_background`."""
        return self._enlarged_background()

    def label(self) -> tuple[LabelMap, NDArray[np.float32]]:
        """Return the label (H, W) uint8 and its confidence (H, W) float32, as `cam_to_label`.

        Maps are enlarged one at a time.
        """
        return _label_of(
            lambda index: resize_maps(self.low_res_maps[index, None], self.image_shape)[0],
            self.classes,
            self._enlarged_background(),
            self.image_shape,
        )

    def _enlarged_background(self) -> float | NDArray[np.float32]:
        low_res = self.low_res_background
        if isinstance(low_res, np.ndarray):
            return np.asarray(resize_maps(low_res[None], self.image_shape)[0])
        return low_res


class CamClassifier:
    """Finds which classes are in an image and where, at every scale and flipped."""

    def __init__(
        self,
        bundle: BundleLike,
        settings: CamSettings | Mapping[str, Any] | None = None,
        *,
        session: SessionOptions | Mapping[str, Any] | None = None,
    ):
        """Open the bundle's classifier.

        Args:
            bundle: a bundle with a `cam` graph; a Bundle, its folder, or "demo".
            settings: or a dict of fields over the bundle's defaults; None for these defaults.
            session: how the graph is run, or a dict of fields; None for SessionOptions().

        Raises:
            BundleError: the bundle holds no classifier.
            BackendError: the backend cannot run it.
            SettingsError: a setting, or a default of the bundle, is unknown or out of range.
        """
        bundle = as_bundle(bundle)
        self.cam: CamSpec = bundle.require_cam()
        self.settings = as_settings(
            CamSettings, settings, "settings", partial(CamSettings.of, bundle)
        )
        self._session = backends.open(bundle.graph("cam"), as_session(session))
        self.runs_on = backends.runs_on(self._session)

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground class names; label value v is classes[v - 1]."""
        return self.cam.classes

    def run(self, image: ImageLike, image_labels: ImageLabelsLike | None = None) -> CamResult:
        """Compute the activation maps of one image.

        Without `image_labels` the classes are predicted: the logits at the scale closest to 1,
        averaged over the image and its flip, through a sigmoid.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            image_labels: the classes in the image, (C,) bool or their names; None to predict them.

        Raises:
            ImageError: the image cannot be read or has another layout.
            LabelError: `image_labels` has another length, or names an unknown class.
            InferenceError: the graph fails, or its output is not finite or fits no view.
            MemoryError: not even one view of the image fits into memory.
        """
        image = as_image(image)
        given = None if image_labels is None else as_image_labels(image_labels, self.cam.classes)
        small = _at_most(image, self.settings.max_side)
        # Predict the classes at the scale closest to 1: half and double are equally far
        scales = sorted(self.settings.scales, key=lambda scale: abs(math.log(scale)))
        maps, logits = self._forward_scale(small, scales[0])
        probabilities = sigmoid(logits)
        present = self._present(probabilities) if given is None else given
        classes = np.flatnonzero(present) + 1
        if len(classes) == 0:
            empty = np.zeros((0, *small.shape[:2]), np.float32)
            background = self.settings.background_score
            return CamResult(classes, empty, background, probabilities, image.shape[:2])
        # Sum the maps of those classes over all scales
        wanted = self._channels(classes)
        total = self._upsampled(maps[wanted], small)
        for scale in scales[1:]:
            total += self._upsampled(self._forward_scale(small, scale)[0][wanted], small)
        total = self._comparable(total)
        background = self.settings.background_score
        if self.cam.has_background:
            background, total = np.maximum(total[0], np.float32(background)), total[1:]
        return CamResult(classes, total, background, probabilities, image.shape[:2])

    def _comparable(self, total: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring sums of maps (K, h, w) over all views to 0 to 1, in place."""
        if self.settings.normalise:
            total /= total.max(axis=(1, 2), keepdims=True) + _EPSILON
            return total
        # The mean over all views; what is no probability is cut off at 1
        total /= np.float32(len(self.settings.scales) * (1 + self.settings.flip))
        return np.minimum(total, np.float32(1), out=total)

    def _forward_scale(
        self, image: RgbImage, scale: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the classifier at one scale.

        Returns:
            maps (C', h, w) after ReLU, summed over both flips; C' is C, or C + 1 with background;
            and the mean logits (C,) of both flips.
        """
        # view (1, 3, h', w'), with its flip (2, 3, h', w')
        view = network_input(_rescaled(image, scale), self.cam)
        views = _with_flip(view) if self.settings.flip else view
        maps, logits = self._forward(views)
        if not (len(maps) == len(logits) == len(views) and maps.size):
            raise InferenceError(
                f"graph 'cam' gave maps {maps.shape} and logits {logits.shape} for {len(views)} "
                "views, expected one of each for every view"
            )
        # Flip the maps of the flipped view back before adding them
        positive = np.maximum(maps, np.float32(0))
        if self.settings.flip:
            return positive[0] + positive[1][:, :, ::-1], logits.mean(axis=0)
        return positive[0], logits[0]

    def _forward(
        self, views: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the graph on (B, 3, h, w), one view after the other if memory is short."""
        try:
            outputs = self._session.run({"image": views})
        except MemoryError:
            if len(views) == 1:
                raise
            single = [self._session.run({"image": view[None]}) for view in views]
            outputs = {k: np.concatenate([one[k] for one in single]) for k in single[0]}
        return outputs["cam"], outputs["logits"]

    def _present(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Predict which classes are in the image, (C,) bool, from their probabilities (C,)."""
        present = probabilities > self.settings.presence_threshold
        if self.settings.always_one_class and not present.any():
            present[probabilities.argmax()] = True
        return present

    def _channels(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the channels of the maps to keep: the background's, if any, and the classes'."""
        return np.concatenate([[0], classes]) if self.cam.has_background else classes - 1

    def _upsampled(self, maps: NDArray[np.float32], image: RgbImage) -> NDArray[np.float32]:
        """Enlarge maps (K, h, w) to the image's shape rounded up to whole strides, then crop."""
        height, width = image.shape[:2]
        # As IRN's get_strided_up_size: a map covers whole strides, which may exceed the image
        stride = self.cam.stride
        whole = -(-height // stride) * stride, -(-width // stride) * stride
        return resize_maps(maps, whole)[:, :height, :width]


def cam_to_label(
    maps: ArrayLike,
    classes: ArrayLike,
    background: float | ArrayLike = 0.15,
) -> tuple[LabelMap, NDArray[np.float32]]:
    """Compute the pseudo label: at each pixel the class of the highest map above the background.

    Ties go to the background, then to the lower class.

    Args:
        maps: (K, H, W) numbers, 0 to 1, K at least 0.
        classes: (K,) label values, 1 to 254, ascending; a list of them will do.
        background: one score, 0 to 1, or a map (H, W) of scores.

    Returns:
        label (H, W) uint8, 0 or one of `classes`; and confidence (H, W) float32, 0 to 1: the value
        of the highest map, at background pixels 1 minus it. Without classes the label is
        background with confidence 1.

    Raises:
        LabelError: shapes that do not fit each other, NaN, or label values out of range.
        SettingsError: a background score outside 0 to 1.
    """
    stack = as_array(maps, "maps", "(K, H, W) finite numbers", (None,) * 3, error=LabelError)
    image_shape = (stack.shape[1], stack.shape[2])
    expected = f"({len(stack)},) label values, 1 to {MAX_CLASS}, as many as maps"
    values = as_array(classes, "classes", expected, (len(stack),), kinds="iu", error=LabelError)
    if len(values) and not (values.min() >= 1 and values.max() <= MAX_CLASS):
        raise LabelError(f"classes is {values.tolist()}, expected {expected}")
    # The background is a number, or as the maps
    if isinstance(background, (np.ndarray, list, tuple)):
        expected = f"a number or a map {image_shape} of finite numbers"
        scores = as_array(background, "background", expected, image_shape, error=LabelError)
        return _label_of(stack.__getitem__, values, scores, image_shape)
    Domain(float, 0, 1).check("background", background)
    return _label_of(stack.__getitem__, values, cast(float, background), image_shape)


def _label_of(
    map_of: Callable[[int], NDArray[Any]],
    classes: NDArray[Any],
    background: float | NDArray[Any],
    image_shape: ImageShape,
) -> tuple[LabelMap, NDArray[np.float32]]:
    """Compute what `cam_to_label` returns from maps (H, W) that are asked for one at a time."""
    if len(classes) == 0:
        return np.zeros(image_shape, np.uint8), np.ones(image_shape, np.float32)
    # best, label (H, W): value and class of the highest map so far
    best = map_of(0).copy()
    label = np.full(image_shape, classes[0], np.uint8)
    for index, value in enumerate(classes[1:], 1):
        _keep_higher(best, label, map_of(index), value)
    is_background = best <= background
    label[is_background] = 0
    np.subtract(1, best, out=best, where=is_background)
    return label, best.astype(np.float32, copy=False)


def _keep_higher(
    best: NDArray[Any], label: LabelMap, activation: NDArray[Any], value: np.integer[Any]
) -> None:
    """Put a map (H, W) and its label value where it is higher than the best so far."""
    # Of equals the first one stays, which is the lower class
    is_higher = activation > best
    np.copyto(best, activation, where=is_higher)
    label[is_higher] = value


def resize_maps(maps: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps (K, h, w) to `shape` (H, W), bilinear between pixel centres.

    Equal to torch's `interpolate(mode="bilinear", align_corners=False)` up to rounding.
    """
    if maps.shape[1:] == shape:
        return maps
    resized = np.empty((len(maps), *shape), np.float32)
    for source, target in zip(maps, resized, strict=True):
        # OpenCV takes (width, height)
        cv2.resize(source, shape[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute 1 / (1 + exp(-x)), without overflow for large negative values."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def _at_most(image: RgbImage, max_side: int | None) -> RgbImage:
    """Reduce an image whose longer side exceeds `max_side`; None: never."""
    longer = max(image.shape[:2])
    return image if max_side is None or longer <= max_side else _rescaled(image, max_side / longer)


def _rescaled(image: RgbImage, scale: float) -> RgbImage:
    """Scale both sides of an image, bicubic as IRN does, to at least one pixel."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def network_input(image: RgbImage, cam: CamSpec) -> NDArray[np.float32]:
    """Convert an image (H, W, 3) uint8 to the network's input (1, 3, H, W) float32, normalised."""
    normalised = (image.astype(np.float32) / _MAX_BYTE - cam.mean) / cam.std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def _with_flip(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append the horizontally flipped view: (1, 3, h, w) to (2, 3, h, w)."""
    return np.concatenate([view, view[:, :, :, ::-1]])
