"""Image-level labels to pixel labels: CAM, Segment Anything and SEPL, without torch.

Images to labels: `Labeler`, and `Refiner` where pseudo labels are there already. The steps one by
one: `CamClassifier` and `cam_to_label`, `MaskGenerator`, `Predictor`, `Segmenter` and `Masks`,
`refine_labels`. Files: `Bundle`, `read_image`, `read_label`, `write_label`, `read_labels`,
`write_labels`, `read_image_labels`, `read_stored_masks`, `write_report`. How well and how fast:
`evaluate`, `verify`, `bench`, `doctor`, `build_engines`. Settings are the classes that end so;
errors are `SamrefineError` and its kinds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samrefine_runtime.backends import SessionOptions
    from samrefine_runtime.bundle import Bundle
    from samrefine_runtime.cam import CamClassifier, CamResult, CamSettings, cam_to_label
    from samrefine_runtime.diagnosis.bench import bench
    from samrefine_runtime.diagnosis.doctor import doctor
    from samrefine_runtime.diagnosis.verify import verify
    from samrefine_runtime.engines import EngineSettings, build_engines
    from samrefine_runtime.errors import (
        BackendError,
        BundleError,
        ImageError,
        InferenceError,
        LabelError,
        MaskFileError,
        OutputError,
        RunError,
        SamrefineError,
        SettingsError,
    )
    from samrefine_runtime.evaluate import evaluate
    from samrefine_runtime.formats import read_stored_masks
    from samrefine_runtime.formats.image_labels import read_image_labels
    from samrefine_runtime.formats.settings import FormatSettings
    from samrefine_runtime.image import read_image
    from samrefine_runtime.label_files import StoredLabels, read_labels, write_labels
    from samrefine_runtime.labels import read_label, write_label
    from samrefine_runtime.masks.masks import Masks
    from samrefine_runtime.pipeline import Labeler, Refiner
    from samrefine_runtime.refine import RefineSettings, refine_labels
    from samrefine_runtime.report.results import write_report
    from samrefine_runtime.results import LabelResult
    from samrefine_runtime.sam.generator import MaskGenerator
    from samrefine_runtime.sam.predictor import Predictor
    from samrefine_runtime.sam.settings import GeneratorSettings
    from samrefine_runtime.segment import Segmenter

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CamClassifier",
    "CamResult",
    "CamSettings",
    "EngineSettings",
    "FormatSettings",
    "GeneratorSettings",
    "ImageError",
    "InferenceError",
    "LabelError",
    "LabelResult",
    "Labeler",
    "MaskFileError",
    "MaskGenerator",
    "Masks",
    "OutputError",
    "Predictor",
    "RefineSettings",
    "Refiner",
    "RunError",
    "SamrefineError",
    "Segmenter",
    "SessionOptions",
    "SettingsError",
    "StoredLabels",
    "bench",
    "build_engines",
    "cam_to_label",
    "doctor",
    "evaluate",
    "read_image",
    "read_image_labels",
    "read_label",
    "read_labels",
    "read_stored_masks",
    "refine_labels",
    "verify",
    "write_label",
    "write_labels",
    "write_report",
]

# Names are imported on first use: `samrefine --help` must not wait for NumPy and OpenCV.
_HOMES = {
    "BackendError": "errors",
    "Bundle": "bundle",
    "BundleError": "errors",
    "CamClassifier": "cam",
    "CamResult": "cam",
    "CamSettings": "cam",
    "EngineSettings": "engines",
    "FormatSettings": "formats.settings",
    "GeneratorSettings": "sam.settings",
    "ImageError": "errors",
    "InferenceError": "errors",
    "LabelError": "errors",
    "LabelResult": "results",
    "Labeler": "pipeline",
    "MaskFileError": "errors",
    "MaskGenerator": "sam.generator",
    "Masks": "masks.masks",
    "OutputError": "errors",
    "Predictor": "sam.predictor",
    "RefineSettings": "refine",
    "Refiner": "pipeline",
    "RunError": "errors",
    "SamrefineError": "errors",
    "Segmenter": "segment",
    "SessionOptions": "backends",
    "SettingsError": "errors",
    "StoredLabels": "label_files",
    "bench": "diagnosis.bench",
    "build_engines": "engines",
    "cam_to_label": "cam",
    "doctor": "diagnosis.doctor",
    "evaluate": "evaluate",
    "read_image": "image",
    "read_image_labels": "formats.image_labels",
    "read_label": "labels",
    "read_labels": "label_files",
    "read_stored_masks": "formats",
    "refine_labels": "refine",
    "verify": "diagnosis.verify",
    "write_label": "labels",
    "write_labels": "label_files",
    "write_report": "report.results",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"samrefine_runtime.{_HOMES[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    """List the public names, whether imported yet or not, and what every module has."""
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
