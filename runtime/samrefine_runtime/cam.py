"""Class activation maps of an image, and the pseudo label they give.

The multi-scale scheme is IRN's (Ahn et al., "Weakly Supervised Learning of Instance Segmentation
with Inter-pixel Relations", 2019, step/make_cam.py); the label is its eval_cam.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle, CamSpec
from samrefine_runtime.errors import BackendError, LabelError, SettingsError
from samrefine_runtime.image import RgbImage, check_image
from samrefine_runtime.labels import MAX_CLASS, LabelMap
from samrefine_runtime.settings import Settings, real, settings_of, switch, whole

_EPSILON = np.float32(1e-5)
"""Added to a map's maximum before the division, as IRN does."""

_MAX_SCALE = 8


@dataclass(frozen=True)
class CamSettings(Settings):
    """How activation maps become a label; the defaults are IRN's."""

    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    """Scales at which the image is classified, as factors of its size; above 0, at most 8."""
    flip: bool = switch(True)
    """Whether each scale is also run on the horizontally flipped image."""
    background_score: float = real(
        0.15, 0, 1, help="Minimum score of a class's CAM, which is 0 to 1."
    )
    """0 to 1, what a class map must exceed; IRN 0.15, PSA 0.2, ReCAM 0.21, AMN 0.25, SEAM 0.26."""
    presence_threshold: float = real(
        0.5, 0, 1, help="Minimum probability of a predicted class, 0 to 1."
    )
    """0 to 1, the probability above which a class is predicted to be in the image."""
    always_one_class: bool = switch(
        True, flag="--allow-empty", help="Let an image have no predicted class at all."
    )
    """Whether the likeliest class is predicted even where none exceeds the threshold."""
    max_side: int | None = whole(1024, 1, is_optional=True)
    """Longer side, pixels, to which larger images are first reduced; None: never (IRN). Bounds
    memory and time, and keeps objects near the size classifiers are trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        except (TypeError, ValueError):
            raise SettingsError(f"scales is {self.scales!r}, expected numbers") from None
        if not self.scales or not all(0 < scale <= _MAX_SCALE for scale in self.scales):
            raise SettingsError(
                f"scales is {self.scales}, expected one or more above 0, at most {_MAX_SCALE}"
            )

    @classmethod
    def of(cls, bundle: Bundle, **given: Any) -> CamSettings:
        """Combine given settings with the bundle's defaults for its classifier, then IRN's.

        Raises:
            SettingsError: an unknown name, or a value out of range.
        """
        return settings_of(cls, given, (bundle.manifest.get("cam") or {}).get("defaults", {}))


@dataclass(frozen=True)
class CamResult:
    """Activation maps of the classes in one image."""

    classes: NDArray[np.int64]
    """(K,) label values of the classes taken to be in the image, ascending: 1 is the first class.
    K is 0 for an image without any: its label is all background"""
    maps: NDArray[np.float32]
    """(K,H,W) at image size, 0 to 1, each divided by its maximum"""
    background: float | NDArray[np.float32]
    """what a map must exceed: the constant score, or the network's own background map (H,W)"""
    probabilities: NDArray[np.float32]
    """(C,) of every class the network knows"""

    def label(self) -> tuple[LabelMap, NDArray[np.float32]]:
        """Label (H,W) uint8 and confidence (H,W) float32, as `cam_to_label`."""
        return cam_to_label(self.maps, self.classes, self.background)


class CamClassifier:
    """Finds which classes are in an image and where, at every scale and flipped."""

    def __init__(
        self,
        bundle: Bundle,
        settings: CamSettings | None = None,
        *,
        session: SessionOptions | None = None,
    ):
        """Open the bundle's classifier.

        Args:
            bundle: a bundle with a `cam` graph.
            settings: None for the bundle's defaults.
            session: how the graph is run, None for SessionOptions().

        Raises:
            BundleError: the bundle holds no classifier.
            BackendError: the backend cannot run it.
            SettingsError: the bundle's defaults are out of range.
        """
        self.cam: CamSpec = bundle.require_cam()
        self.settings = settings or CamSettings.of(bundle)
        self._session = backends.open(bundle.graph("cam"), session or SessionOptions())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; label value v is classes[v - 1]."""
        return self.cam.classes

    def run(self, image: RgbImage, image_labels: NDArray[np.bool_] | None = None) -> CamResult:
        """Compute the activation maps of one image.

        Without `image_labels` the classes are predicted: the logits at the scale closest to 1,
        averaged over the image and its flip, through a sigmoid.

        Args:
            image: (H,W,3) uint8 RGB.
            image_labels: (C,) bool, the classes in the image, if they are known.

        Raises:
            ImageError: the image has another layout.
            LabelError: `image_labels` is not (C,) bool.
            BackendError: the graph fails, or its output does not fit the manifest.
            MemoryError: not even one view of the image fits into memory.
        """
        check_image(image)
        if image_labels is not None:
            check_image_labels(image_labels, len(self.cam.classes))
        height, width = image.shape[:2]
        small = _at_most(image, self.settings.max_side)
        # Predict the classes at the scale closest to 1
        scales = sorted(self.settings.scales, key=lambda scale: abs(math.log(scale)))
        maps, logits = self._forward_scale(small, scales[0])
        probabilities = sigmoid(logits)
        present = self._present(probabilities) if image_labels is None else image_labels
        classes = np.flatnonzero(present) + 1
        if len(classes) == 0:
            empty = np.zeros((0, height, width), np.float32)
            return CamResult(classes, empty, self.settings.background_score, probabilities)
        # Sum the maps of those classes over all scales
        wanted = self._channels(classes)
        total = self._upsampled(maps[wanted], small)
        for scale in scales[1:]:
            total += self._upsampled(self._forward_scale(small, scale)[0][wanted], small)
        # Divide each map by its maximum, then enlarge to the image
        total /= total.max(axis=(1, 2), keepdims=True) + _EPSILON
        total = resize_maps(total, (height, width))
        if self.cam.has_background:
            return CamResult(classes, total[1:], total[0], probabilities)
        return CamResult(classes, total, self.settings.background_score, probabilities)

    def _forward_scale(
        self, image: RgbImage, scale: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run one scale: maps (C',h,w) after ReLU, summed over both flips, and mean logits (C,)."""
        view = _network_input(_rescaled(image, scale), self.cam)
        maps, logits = self._forward(_with_flip(view) if self.settings.flip else view)
        expected = len(self.cam.classes) + self.cam.has_background, len(self.cam.classes)
        if maps.ndim != 4 or (maps.shape[1], logits.shape[1]) != expected:
            raise BackendError(
                f"the cam graph gives maps {maps.shape} and logits {logits.shape}, the manifest "
                f"promises {expected[0]} maps and {expected[1]} logits"
            )
        positive = np.maximum(maps, np.float32(0))
        if self.settings.flip:
            return positive[0] + positive[1][:, :, ::-1], logits.mean(axis=0)
        return positive[0], logits[0]

    def _forward(
        self, views: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The graph on (B,3,h,w), one view after the other where memory is short."""
        try:
            outputs = self._session.run({"image": views})
        except MemoryError:
            if len(views) == 1:
                raise
            single = [self._session.run({"image": view[None]}) for view in views]
            outputs = {k: np.concatenate([one[k] for one in single]) for k in single[0]}
        return outputs["cam"], outputs["logits"]

    def _present(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        present = probabilities > self.settings.presence_threshold
        if self.settings.always_one_class and not present.any():
            present[probabilities.argmax()] = True
        return present

    def _channels(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Channels of the maps to keep: those of the classes, and first the background's."""
        return np.concatenate([[0], classes]) if self.cam.has_background else classes - 1

    def _upsampled(self, maps: NDArray[np.float32], image: RgbImage) -> NDArray[np.float32]:
        """Maps (K,h,w) at the image's size rounded up to whole strides, cropped to the image."""
        height, width = image.shape[:2]
        stride = self.cam.stride
        whole = -(-height // stride) * stride, -(-width // stride) * stride
        return resize_maps(maps, whole)[:, :height, :width]


def cam_to_label(
    maps: NDArray[np.float32],
    classes: NDArray[np.integer[Any]],
    background: float | NDArray[np.float32] = 0.15,
) -> tuple[LabelMap, NDArray[np.float32]]:
    """The pseudo label: at each pixel the class of the highest map, if it exceeds the background.

    Ties go to the background, then to the lower class.

    Args:
        maps: (K,H,W), 0 to 1, K at least 0.
        classes: (K,) label values, 1 to 254, ascending.
        background: 0 to 1, one score or a map (H,W) of scores.

    Returns:
        label (H,W) uint8, 0 or one of `classes`; and confidence (H,W) float32, 0 to 1: the value
        of the winning map, at background pixels 1 minus the highest map. Without classes the
        label is background at confidence 1.

    Raises:
        LabelError: shapes that do not go together, or label values out of range.
        SettingsError: a background score outside 0 to 1.
    """
    _check_label_input(maps, classes, background)
    if len(maps) == 0:
        return np.zeros(maps.shape[1:], np.uint8), np.ones(maps.shape[1:], np.float32)
    best = maps.max(axis=0)
    foreground = best > background
    winner = classes.astype(np.uint8)[maps.argmax(axis=0)]
    label = np.where(foreground, winner, np.uint8(0))
    return label, np.where(foreground, best, 1 - best).astype(np.float32, copy=False)


def check_image_labels(image_labels: NDArray[np.bool_], classes: int) -> None:
    """Raise LabelError unless `image_labels` is (classes,) bool."""
    if image_labels.shape != (classes,) or image_labels.dtype != np.bool_:
        raise LabelError(
            f"image labels are {image_labels.shape} {image_labels.dtype}, "
            f"expected ({classes},) bool"
        )


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (K,h,w) at `size` (H,W), bilinear between pixel centres.

    Equal to torch's `interpolate(mode="bilinear", align_corners=False)` up to rounding.
    """
    if maps.shape[1:] == size:
        return maps
    resized = np.empty((len(maps), *size), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow for large negative values."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def _at_most(image: RgbImage, max_side: int | None) -> RgbImage:
    """The image with its longer side reduced to `max_side`, if it is longer."""
    longer = max(image.shape[:2])
    return image if max_side is None or longer <= max_side else _rescaled(image, max_side / longer)


def _rescaled(image: RgbImage, scale: float) -> RgbImage:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _network_input(image: RgbImage, cam: CamSpec) -> NDArray[np.float32]:
    """(H,W,3) uint8 as (1,3,H,W) float32, normalised."""
    normalised = (image.astype(np.float32) / np.float32(255) - cam.mean) / cam.std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def _with_flip(view: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([view, view[:, :, :, ::-1]])


def _check_label_input(
    maps: NDArray[np.float32],
    classes: NDArray[np.integer[Any]],
    background: float | NDArray[np.float32],
) -> None:
    if maps.ndim != 3 or classes.shape != maps.shape[:1]:
        raise LabelError(
            f"maps are {maps.shape} and classes {classes.shape}, expected (K, H, W) and (K,)"
        )
    if len(classes) and not (classes.min() >= 1 and classes.max() <= MAX_CLASS):
        raise LabelError(f"classes are {classes.tolist()}, expected label values 1 to {MAX_CLASS}")
    if isinstance(background, np.ndarray):
        if background.shape != maps.shape[1:]:
            raise LabelError(f"background is {background.shape}, expected {maps.shape[1:]}")
    elif not 0 <= background <= 1:
        raise SettingsError(f"background score is {background}, expected 0 to 1")
