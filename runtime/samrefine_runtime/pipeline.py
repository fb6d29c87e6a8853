"""The whole pipeline: an image, or an image and its pseudo label, to the refined label."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from samrefine_runtime.arguments import (
    BundleLike,
    ImageLabelsLike,
    ImageLike,
    LabelLike,
    Progress,
    as_bundle,
    as_image,
    as_label,
    as_settings,
)
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.cam import CamClassifier, CamSettings
from samrefine_runtime.checks import StrPath
from samrefine_runtime.class_names import classes_of
from samrefine_runtime.errors import LabelError
from samrefine_runtime.refine import RefineSettings, refine_and_choose
from samrefine_runtime.results import LabelResult
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import Settings

PROMPTS = "guided"
"""The prompt mode where none is given: only masks near the pseudo label can matter to SEPL."""


class Refiner:
    """Everything mode near a pseudo label and SEPL, one image at a time."""

    def __init__(
        self,
        bundle: BundleLike,
        classes: StrPath | Sequence[str] | None = None,
        *,
        generator: GeneratorSettings | Mapping[str, Any] | None = None,
        refinement: RefineSettings | Mapping[str, Any] | None = None,
        session: SessionOptions | Mapping[str, Any] | None = None,
    ):
        """Open the bundle's graphs.

        Settings are objects of their class, or dicts of its fields, which come over the bundle's
        defaults; None for these defaults. They are those of `samrefine refine`.

        Args:
            bundle: holds SAM; a Bundle, its folder, or "demo".
            classes: foreground names, or a file of them; label value v is classes[v - 1]. None
                where no format that is written needs names.
            generator: everything mode; prompts are "guided" where a dict does not say otherwise.
            refinement: which masks a class takes; RefineSettings.of(bundle) is cautious.
            session: how the graphs are run, None for SessionOptions().

        Raises:
            BundleError: the bundle has no SAM.
            BackendError: no backend here can run the graphs.
            SettingsError: no list of names, or an unknown or impossible setting.
        """
        bundle = as_bundle(bundle)
        self.classes = () if classes is None else classes_of(classes)
        settings = as_settings(
            GeneratorSettings,
            generator,
            "generator",
            lambda **given: GeneratorSettings.of(bundle, **{"prompts": PROMPTS, **given}),
        )
        self.refinement = as_settings(
            RefineSettings, refinement, "refinement", partial(RefineSettings.of, bundle)
        )
        self.generator = MaskGenerator(bundle, session=session, **vars(settings))
        self.runs_on = self.generator.runs_on

    def refine(
        self, image: ImageLike, pseudo_label: LabelLike, *, progress: Progress | None = None
    ) -> LabelResult:
        """Refine the pseudo label of one image.

        Args:
            image: (H, W, 3) uint8 RGB, an image file, or a Pillow image.
            pseudo_label: (H, W) uint8 or a label PNG; 255 is no class and becomes background.
            progress: called with (prompts done, prompts in all) after every batch of prompts.

        Returns:
            The labels, the masks and their times; there is no CAM.

        Raises:
            ImageError: the image cannot be read, is not (H, W, 3) uint8 or is empty.
            LabelError: the pseudo label cannot be read, or is of another shape than the image.
            SettingsError: progress cannot be called.
            InferenceError: a graph fails, or gives what is not finite.
        """
        pixels, label = as_image(image), as_label(pseudo_label, "pseudo label")
        if label.shape != pixels.shape[:2]:
            raise LabelError(
                f"pseudo label is {label.shape} (H, W), expected {pixels.shape[:2]} as its image"
            )
        seconds: dict[str, float] = {}
        with _timed(seconds, "masks"):
            masks = self.generator.generate(pixels, pseudo_label=label, progress=progress)
        with _timed(seconds, "refine"):
            refined, chosen = refine_and_choose(label, masks, self.refinement)
        return LabelResult(
            label=refined,
            pseudo_label=label,
            cam=None,
            masks=masks,
            seconds=seconds,
            chosen=chosen,
            image=pixels,
            image_file=_file_of(image),
            classes=self.classes,
        )


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
        self.refiner = Refiner(bundle, generator=generator, refinement=refinement, session=session)
        self.generator, self.refinement = self.refiner.generator, self.refiner.refinement
        cam = as_settings(CamSettings, cam, "cam", partial(CamSettings.of, bundle))
        self.classifier = CamClassifier(bundle, cam, session=session)
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
        pixels = as_image(image)
        seconds: dict[str, float] = {}
        with _timed(seconds, "cam"):
            cam = self.classifier.run(pixels, image_labels)
            pseudo_label, _ = cam.label()
        result = self.refiner.refine(pixels, pseudo_label, progress=progress)
        return replace(
            result,
            cam=cam,
            seconds={**seconds, **result.seconds},
            image_file=_file_of(image),
            classes=self.classes,
        )


def _file_of(image: ImageLike) -> Path | None:
    """Return the file that an image was given as, None if it was none."""
    return Path(image) if isinstance(image, (str, os.PathLike)) else None


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
