"""The whole pipeline: an image to its refined label."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from samrefine_runtime.arguments import (
    BundleLike,
    ImageLabelsLike,
    ImageLike,
    Progress,
    as_bundle,
    as_image,
    as_settings,
)
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamClassifier, CamSettings
from samrefine_runtime.refine import RefineSettings, refine_and_choose
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Settings

PROMPTS = "guided"
"""The prompt mode where none is given: only masks near the pseudo label can matter to SEPL."""


class Labeler:
    """CAM, everything mode and SEPL, one image at a time."""

    def __init__(
        self,
        bundle: BundleLike,
        *,
        generator: GeneratorSettings | Mapping[str, Any] | None = None,
        cam: CamSettings | Mapping[str, Any] | None = None,
        refinement: RefineSettings | Mapping[str, Any] | None = None,
        session: SessionOptions | Mapping[str, Any] | None = None,
    ):
        """Open the bundle's graphs.

        Settings are objects of their class, or dicts of its fields, which come over the bundle's
        defaults; None for these defaults.

        Args:
            bundle: holds SAM and a classifier; a Bundle, its folder, or "demo".
            generator: everything mode; prompts are "guided" where a dict does not say otherwise.
            cam: activation maps and pseudo label.
            refinement: which masks a class takes; RefineSettings.of(bundle) is cautious.
            session: how the graphs are run, None for SessionOptions().

        Raises:
            BundleError: the bundle lacks a part.
            BackendError: no backend here can run the graphs.
            SettingsError: an unknown or impossible setting.
        """
        bundle = as_bundle(bundle)
        settings = as_settings(
            GeneratorSettings,
            generator,
            "generator",
            lambda **given: GeneratorSettings.of(bundle, **{"prompts": PROMPTS, **given}),
        )
        self.refinement = as_settings(
            RefineSettings, refinement, "refinement", partial(RefineSettings.of, bundle)
        )
        cam = as_settings(CamSettings, cam, "cam", partial(CamSettings.of, bundle))
        self.classifier = CamClassifier(bundle, cam, session=session)
        self.generator = MaskGenerator(bundle, session=session, **vars(settings))
        self.runs_on = {**self.classifier.runs_on, **self.generator.runs_on}

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground names; label value v is classes[v - 1]."""
        return self.classifier.classes

    @property
    def settings(self) -> tuple[Settings, ...]:
        """Settings of the three stages, on which labels depend beside the bundle."""
        return self.classifier.settings, self.generator.settings, self.refinement

    def label(
        self,
        image: ImageLike,
        image_labels: ImageLabelsLike | None = None,
        *,
        progress: Progress | None = None,
    ) -> LabelResult:
        """Label one image.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            image_labels: the classes in the image, (C,) bool or their names; None to predict them.
            progress: called with (prompts done, prompts in all) after every batch of prompts.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            LabelError: image_labels has another length, or names an unknown class.
            SettingsError: progress cannot be called.
            InferenceError: a graph fails, or gives what is not finite.
        """
        image = as_image(image)
        seconds: dict[str, float] = {}
        with _timed(seconds, "cam"):
            cam = self.classifier.run(image, image_labels)
            pseudo_label, _ = cam.label()
        with _timed(seconds, "masks"):
            masks = self.generator.generate(image, pseudo_label=pseudo_label, progress=progress)
        with _timed(seconds, "refine"):
            label, chosen = refine_and_choose(pseudo_label, masks, self.refinement)
        return LabelResult(label, pseudo_label, cam, masks, seconds, chosen)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
