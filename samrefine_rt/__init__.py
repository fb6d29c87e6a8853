"""Image-level labels to pixel labels: CAM, Segment Anything and SEPL, without torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samrefine_runtime.backends import SessionOptions
    from samrefine_runtime.bundle import Bundle
    from samrefine_runtime.cam import CamClassifier, CamSettings, cam_to_label
    from samrefine_runtime.diagnosis.bench import bench
    from samrefine_runtime.diagnosis.doctor import doctor
    from samrefine_runtime.diagnosis.verify import verify
    from samrefine_runtime.engines import EngineSettings, build_engines
    from samrefine_runtime.errors import SamrefineError
    from samrefine_runtime.evaluate import evaluate
    from samrefine_runtime.image import read_image
    from samrefine_runtime.labels import read_label, write_label
    from samrefine_runtime.masks.masks import Masks
    from samrefine_runtime.pipeline import Labeler
    from samrefine_runtime.refine import RefineSettings, refine_labels
    from samrefine_runtime.sam.generator import MaskGenerator
    from samrefine_runtime.sam.predictor import Predictor
    from samrefine_runtime.sam.settings import GeneratorSettings
    from samrefine_runtime.segment import Segmenter

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "CamClassifier",
    "CamSettings",
    "EngineSettings",
    "GeneratorSettings",
    "Labeler",
    "MaskGenerator",
    "Masks",
    "Predictor",
    "RefineSettings",
    "SamrefineError",
    "Segmenter",
    "SessionOptions",
    "bench",
    "build_engines",
    "cam_to_label",
    "doctor",
    "evaluate",
    "read_image",
    "read_label",
    "refine_labels",
    "verify",
    "write_label",
]

# Names are imported on first use: `samrefine --help` must not wait for NumPy and OpenCV.
_HOMES = {
    "Bundle": "bundle",
    "CamClassifier": "cam",
    "CamSettings": "cam",
    "EngineSettings": "engines",
    "GeneratorSettings": "sam.settings",
    "Labeler": "pipeline",
    "MaskGenerator": "sam.generator",
    "Masks": "masks.masks",
    "Predictor": "sam.predictor",
    "RefineSettings": "refine",
    "SamrefineError": "errors",
    "Segmenter": "segment",
    "SessionOptions": "backends",
    "bench": "diagnosis.bench",
    "build_engines": "engines",
    "cam_to_label": "cam",
    "doctor": "diagnosis.doctor",
    "evaluate": "evaluate",
    "read_image": "image",
    "read_label": "labels",
    "refine_labels": "refine",
    "verify": "diagnosis.verify",
    "write_label": "labels",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"samrefine_runtime.{_HOMES[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    """List the public names, whether imported yet or not."""
    return sorted({*globals(), *__all__})
