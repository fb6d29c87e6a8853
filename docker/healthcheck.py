"""Prove that the runtime works in this container; the images call it as their HEALTHCHECK.

    python3 healthcheck.py BACKEND [MODULE ...]

It imports the modules, labels an embedded image on the backend, and compares the label with the
ground truth. It exits with 0, or with 1 and the reason in one line.
"""

from __future__ import annotations

import sys
from importlib import import_module

from samrefine_rt import Bundle, Labeler, RefineSettings, SessionOptions
from samrefine_rt.demo import demo_images
from samrefine_runtime.evaluate import Evaluation, confusion_matrix

SCENE = "scene-4"
"""The embedded image on which the refinement gains most: 54.8 to 84.2 mIoU."""

LEAST_MIOU = 0.75
"""The CAM alone does not reach it, nor do masks that are wrong; other precisions do."""


def main(backend: str, *modules: str) -> None:
    """Check one container.

    Args:
        backend: what has to run the graphs, as `samrefine --backend`.
        modules: what must import besides.
    """
    try:
        for name in modules:
            import_module(name)
        miou = refined_miou(backend)
    except Exception as error:  # whatever it is, the container is not healthy
        sys.exit(f"unhealthy: {error}")
    if miou < LEAST_MIOU:
        sys.exit(f"unhealthy: {SCENE} has {miou:.3f} mIoU, expected at least {LEAST_MIOU}")


def refined_miou(backend: str) -> float:
    """Label the embedded image on a backend. Returns the label's mIoU, 0 to 1."""
    # Refined whatever SAM's trust in it: the embedded model was made for this image
    labeler = Labeler(
        Bundle.load("demo"),
        refinement=RefineSettings(min_trust=0),
        session=SessionOptions(backend=backend),
    )
    scene = next(each for each in demo_images(labeler.classes) if each.path.stem == SCENE)
    result = labeler.label(scene.read(), scene.image_labels)
    confusion = confusion_matrix(result.label, scene.ground_truth(), len(labeler.classes) + 1)
    return Evaluation(confusion, 1, [], []).miou


if __name__ == "__main__":
    main(*sys.argv[1:])
