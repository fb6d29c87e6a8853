"""The whole pipeline: an image to its refined label."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamClassifier, CamSettings
from samrefine_runtime.image import RgbImage, check_image
from samrefine_runtime.refine import RefineSettings, refine
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.generator import MaskGenerator, Progress

PROMPTS = "guided"
"""The prompt mode where none is given: only masks near the pseudo label can matter to SEPL."""


class Labeler:
    """CAM, everything mode and SEPL, one image at a time."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        generator: Mapping[str, Any] | None = None,
        cam: CamSettings | None = None,
        refinement: RefineSettings | None = None,
        session: SessionOptions | None = None,
    ):
        """Open the bundle's graphs.

        Args:
            bundle: holds SAM and a classifier.
            generator: fields of GeneratorSettings over the bundle's defaults; prompts are
                "guided" where it does not say otherwise.
            cam: None for the bundle's defaults.
            refinement: None for RefineSettings.of(bundle), which is cautious.
            session: how the graphs are run, None for SessionOptions().

        Raises:
            BundleError: the bundle lacks a part.
            BackendError: no backend here can run the graphs.
            SettingsError: an unknown or impossible setting.
        """
        self.classifier = CamClassifier(bundle, cam, session=session)
        settings = {"prompts": PROMPTS, **(generator or {})}
        self.generator = MaskGenerator(bundle, session=session, **settings)
        self.refinement = refinement or RefineSettings.of(bundle)

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground names; label value v is classes[v - 1]."""
        return self.classifier.classes

    def label(
        self,
        image: RgbImage,
        image_labels: NDArray[np.bool_] | None = None,
        *,
        progress: Progress = lambda done, total: None,
    ) -> LabelResult:
        """Label one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            image_labels: (C,) bool, the classes in the image; None to predict them.
            progress: called after every batch of prompts.

        Raises:
            ImageError: the image is not (H, W, 3) uint8 or is empty.
            LabelError: image_labels has another length.
        """
        check_image(image)
        seconds: dict[str, float] = {}
        with _timed(seconds, "cam"):
            cam = self.classifier.run(image, image_labels)
            pseudo_label, confidence = cam.label()
        with _timed(seconds, "masks"):
            masks = self.generator.generate(image, pseudo_label=pseudo_label, progress=progress)
        with _timed(seconds, "refine"):
            label = refine(pseudo_label, masks, self.refinement)
        return LabelResult(label, pseudo_label, confidence, cam, masks, seconds)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
