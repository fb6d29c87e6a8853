"""The whole way: a photo to its refined label."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.ort import Backend
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamClassifier, CamResult, CamSettings
from samrefine_runtime.errors import SettingsError
from samrefine_runtime.image import RgbImage, check_image
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.refine import Label, RefineSettings, refine
from samrefine_runtime.sam.generator import MaskGenerator, Progress
from samrefine_runtime.sam.prompts import PROMPT_MODES, PromptMode, prompt_region


@dataclass(frozen=True)
class LabelResult:
    """What is known of one photo of H x W pixels."""

    label: Label
    """(H, W) uint8, the refined label"""
    pseudo_label: Label
    """(H, W) uint8, what the CAM alone says"""
    confidence: NDArray[np.float32]
    """(H, W), 0 to 1, of the pseudo label"""
    cam: CamResult
    masks: Masks
    seconds: Mapping[str, float]
    """time of each stage: cam, masks, refine"""

    @property
    def changed(self) -> float:
        """Share of the pixels that the refinement changed, 0 to 1."""
        return float(np.mean(self.label != self.pseudo_label))

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        """Figures for a JSON file; `classes` (C,) are the foreground names."""
        before = np.bincount(self.pseudo_label.reshape(-1), minlength=256)
        after = np.bincount(self.label.reshape(-1), minlength=256)
        present = [i for i in range(1, len(classes) + 1) if before[i] or after[i]]
        return {
            "size": list(self.label.shape),
            "classes": {
                classes[i - 1]: {
                    "pseudo_label_pixels": int(before[i]),
                    "pixels": int(after[i]),
                    "probability": float(self.cam.probabilities[i - 1]),
                }
                for i in present
            },
            "changed": self.changed,
            "masks": len(self.masks),
            "seconds": {stage: round(taken, 3) for stage, taken in self.seconds.items()},
        }


class Labeler:
    """CAM, everything mode and SEPL, one photo at a time."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        generator: Mapping[str, Any] | None = None,
        cam: CamSettings | None = None,
        refinement: RefineSettings | None = None,
        prompts: PromptMode = "guided",
        backend: Backend = "auto",
        threads: int | None = None,
    ):
        """Open the bundle's graphs.

        Args:
            bundle: holds SAM and a classifier.
            generator: MaskGenerator keywords over the bundle's defaults.
            cam: None for the bundle's defaults.
            refinement: None for RefineSettings().
            prompts: which points of the grid to ask SAM about.
            backend: see OrtSession.
            threads: CPU threads, None for all cores.

        Raises:
            BundleError: the bundle lacks a part.
            BackendError: nothing here can run the graphs.
            SettingsError: an unknown or impossible setting.
        """
        session: dict[str, Any] = {"backend": backend, "threads": threads}
        self.classifier = CamClassifier(bundle, cam, **session)
        if prompts not in PROMPT_MODES:
            expected = ", ".join(PROMPT_MODES)
            raise SettingsError(f"prompts is {prompts!r}, expected one of {expected}")
        settings = {**(generator or {}), "hierarchical": prompts != "grid"}
        self.generator = MaskGenerator(bundle, **session, **settings)
        self.refinement = refinement or RefineSettings()
        self.guided = prompts == "guided"

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
        """Label one photo.

        Args:
            image: (H, W, 3) uint8 RGB.
            image_labels: (C,) bool, the classes in the photo; None to predict them.
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
            region = prompt_region(pseudo_label) if self.guided else None
            masks = self.generator.generate(image, region=region, progress=progress)
        with _timed(seconds, "refine"):
            label = refine(pseudo_label, masks, self.refinement)
        return LabelResult(label, pseudo_label, confidence, cam, masks, seconds)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
