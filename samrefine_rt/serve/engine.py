"""The models of a bundle, opened once: what every wire format asks for.

Not for several threads at once: the queue's thread is the one that calls.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_rt import __version__
from samrefine_rt.serve.embeddings import CachedEncoder
from samrefine_rt.serve.settings import Limits
from samrefine_runtime.arguments import Progress
from samrefine_runtime.backends import RunsOn, SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.image import RgbImage, decode_image
from samrefine_runtime.labels import decode_label
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.pipeline import Labeler, Refiner
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.mask_input import low_res_logits
from samrefine_runtime.segment import Segmenter
from samrefine_runtime.settings import Settings, result_settings

_DIGITS = 8
"""Digits of the hash in a model's version."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """What means one object: points, a box, a mask, or several of these."""

    points: NDArray[np.float64]
    """(K, 2) XY pixels of the image; K may be 0."""
    point_labels: NDArray[np.int64]
    """(K,) 1 on the object, 0 beside it."""
    box: NDArray[np.float64] | None = None
    """(4,) XYXY pixels of the image."""
    mask: Masks | None = None
    """One mask, about where the object is; not decoded before its turn."""

    @property
    def is_box(self) -> bool:
        """Whether it is a box and nothing else."""
        return self.box is not None and self.mask is None and len(self.points) == 0


class Engine:
    """Labels, masks and refinement of images that come as the bytes of their files."""

    def __init__(
        self,
        bundle: Bundle,
        limits: Limits,
        *,
        generator: Mapping[str, Any] | None = None,
        cam: Mapping[str, Any] | None = None,
        refinement: Mapping[str, Any] | None = None,
        session: SessionOptions | None = None,
    ):
        """Open the bundle's graphs, each once.

        Args:
            bundle: holds SAM; without a classifier, `label` raises BundleError.
            limits: of images, and of the embeddings that are kept.
            generator: fields of GeneratorSettings over the bundle's defaults.
            cam: fields of CamSettings over the bundle's defaults.
            refinement: fields of RefineSettings over the bundle's defaults.
            session: how the graphs are run.

        Raises:
            BundleError: the bundle has no SAM.
            BackendError: no backend here can run the graphs.
            SettingsError: an unknown or impossible setting.
        """
        self.bundle, self.limits = bundle, limits
        more: dict[str, Any] = {
            "generator": generator,
            "refinement": refinement,
            "session": session,
        }
        self._labeler = None if bundle.cam is None else Labeler(bundle, cam=cam, **more)
        self._refiner = Refiner(bundle, **more) if self._labeler is None else self._labeler.refiner
        # One encoder for all: an image that was labelled answers to clicks at once
        masks = self._refiner.generator
        self.embeddings = masks.encoder = CachedEncoder(masks.encoder, limits.cache_bytes)
        self._everything = masks.with_settings(prompts="grid")
        self._segmenter = Segmenter(bundle, session=session, encoder=self.embeddings)
        self.runs_on: dict[str, RunsOn] = {**self._segmenter.runs_on, **self._refiner.runs_on}
        if self._labeler is not None:
            self.runs_on |= self._labeler.runs_on
        self.model_version = _version(
            bundle,
            (self._refiner.refinement, masks.settings)
            if self._labeler is None
            else self._labeler.settings,
        )

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.bundle.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground names of the classifier; empty without one."""
        return () if self.bundle.cam is None else self.bundle.cam.classes

    def label(
        self, content: bytes, image_labels: Sequence[str] | None, step: Progress
    ) -> LabelResult:
        """Label an image, see `Labeler.label`; `image_labels` are names, None to predict them.

        Raises BundleError in a bundle without a classifier, else as `Labeler.label`.
        """
        if self._labeler is None:
            self.bundle.require_cam()
            raise AssertionError("a bundle with a classifier has a labeler")
        return self._labeler.label(self.decode(content), image_labels, progress=step)

    def refine(self, content: bytes, pseudo_label: bytes, step: Progress) -> LabelResult:
        """Refine the pseudo label, a PNG, of an image, see `Refiner.refine`."""
        label = decode_label(pseudo_label, max_pixels=self.limits.max_pixels)
        return self._refiner.refine(self.decode(content), label, progress=step)

    def masks(self, content: bytes, step: Progress) -> Masks:
        """Find all masks of an image, as `samrefine masks` does."""
        return self._everything.generate(self.decode(content), progress=step)

    def segment(self, content: bytes, prompts: Sequence[Prompt], step: Progress) -> Masks:
        """Find the object of each prompt, in their order; where there is none, its mask is empty.

        Raises SettingsError for a prompt that means nothing, else as `Segmenter`.
        """
        image = self.decode(content)
        if all(prompt.is_box for prompt in prompts):
            boxes = np.array([prompt.box for prompt in prompts]).reshape(-1, 4)
            return self._segmenter.boxes(image, boxes, progress=step).masks
        found = []
        for number, prompt in enumerate(prompts, start=1):
            found.append(self._one(image, prompt))
            step(number, len(prompts))
        return Masks.concatenate(found)

    def _one(self, image: RgbImage, prompt: Prompt) -> Masks:
        """Find the object of one prompt."""
        box, mask_input = prompt.box, None
        if box is not None and prompt.is_box:
            return self._segmenter.boxes(image, [box]).masks
        if prompt.mask is not None:
            mask_input = self._mask_input(prompt.mask, image)
            # SAM makes little of a mask that comes alone
            if box is None and len(prompt.points) == 0:
                box = prompt.mask.boxes[0] + (0, 0, 1, 1)
        elif len(prompt.points) == 0:
            raise SettingsError("a prompt is empty, expected points, a box or a mask")
        return self._segmenter.points(
            image, prompt.points, prompt.point_labels, box, mask_input=mask_input
        ).masks

    def _mask_input(self, mask: Masks, image: RgbImage) -> NDArray[np.float32]:
        """Return a mask as SAM takes it, (1, h, w). Raises SettingsError."""
        if mask.image_shape != image.shape[:2] or not mask.areas[0]:
            raise SettingsError(
                f"mask is {mask.image_shape} (H, W) with {mask.areas[0]} pixels, expected "
                f"{image.shape[:2]} as the image and at least one"
            )
        return low_res_logits(mask.dense(0), self._segmenter.predictor.sam)

    def decode(self, content: bytes) -> RgbImage:
        """Read an image within the limits, (H, W, 3) uint8 RGB. Raises ImageError."""
        return decode_image(content, max_pixels=self.limits.max_pixels)


def _version(bundle: Bundle, settings: Sequence[Settings]) -> str:
    """Return a name that changes with the bundle, this package and every setting that matters."""
    known = [json.dumps(bundle.manifest, sort_keys=True), *(result_settings(s) for s in settings)]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return f"samrefine-rt-{__version__}-{bundle.name}-{digest[:_DIGITS]}"
