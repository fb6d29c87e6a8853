"""Composes a bundle's networks and what lies between them into one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper

from samrefine_export.graph import OPSET
from samrefine_export.pipeline.builder import Graph, Value
from samrefine_export.pipeline.classes import CamInputs, Classifier
from samrefine_export.pipeline.masks import Filters, FoundMasks, MaskFinder, Resampling
from samrefine_export.pipeline.prompts import points_near
from samrefine_export.pipeline.sepl import OneMask, Rules, refine
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.grids import point_grid
from samrefine_runtime.sam.settings import GeneratorSettings

_MODELS = ("encoder", "everything_image", "everything_tokens", "everything_masks")

_NUMBERS = {
    "pred_iou_thresh": np.float32,
    "stability_score_thresh": np.float32,
    "stability_score_offset": np.float32,
    "box_nms_thresh": np.float32,
    "background_score": np.float32,
    "presence_threshold": np.float32,
    "min_inside": np.float32,
    "min_cover": np.float32,
    "max_area_ratio": np.float32,
    "argmax": np.bool_,
    "min_trust": np.float32,
}
"""Inputs that are one number, and need not be given."""


def label_model(bundle: Bundle) -> onnx.ModelProto:
    """Return the graph that labels an image: docs/embedding.md describes what it takes and gives.

    Raises:
        BundleError: the bundle lacks a part.
    """
    graph = Graph()
    defaults = _defaults(bundle)
    numbers = {n: Value(graph, n, np.dtype(kind).name) for n, kind in _NUMBERS.items()}
    image = Value(graph, "image", "uint8")
    height, width = image.side(0), image.side(1)
    planes = image.transpose(2, 0, 1)
    # Which classes are in the image and where, roughly
    cam = CamInputs(
        Value(graph, "image_labels", "bool"),
        numbers["background_score"],
        numbers["presence_threshold"],
    )
    classifier = Classifier(
        graph, _model(bundle, "cam"), bundle.require_cam(), CamSettings.of(bundle)
    )
    classes = classifier.label(planes, height, width, cam)
    # What SAM finds there
    points = points_near(
        graph, Value(graph, "points", "float32"), classes.pseudo_label, height, width
    )
    sam = bundle.require_sam()
    resampling = Resampling(graph, sam, height, width)
    filters = Filters(*(numbers[name] for name in Filters._fields))
    finder = MaskFinder(graph, {n: _model(bundle, n) for n in _MODELS}, sam, filters)
    found = finder.find(finder.pixels(planes, height, width), points, resampling)
    # Which masks the classes take
    rules = Rules(*(numbers[name] for name in Rules._fields))
    masks = _masks_in(graph, found, resampling, classes.pseudo_label, sam.mask_threshold)
    refined = refine(
        graph, classes.pseudo_label, classes.present, found.scores.side(0), masks, rules
    )
    outputs = {
        "label": (refined.label, ["height", "width"]),
        "pseudo_label": (classes.pseudo_label, ["height", "width"]),
        "probabilities": (classes.probabilities, ["classes"]),
        "boxes": (found.boxes, ["masks", 4]),
        "scores": (found.scores, ["masks"]),
        "taken_by": (refined.taken, ["masks"]),
    }
    inputs = {"image": ("uint8", ["height", "width", 3]), "image_labels": ("bool", ["given"])}
    inputs |= {"points": ("float32", ["points", 2])}
    inputs |= {name: (np.dtype(kind).name, []) for name, kind in _NUMBERS.items()}
    model = graph.model(
        [_info(name, *described) for name, described in inputs.items()],
        [(value, _info(name, value.dtype, shape)) for name, (value, shape) in outputs.items()],
        defaults,
        OPSET,
    )
    helper.set_model_props(model, {"classes": "\n".join(bundle.require_cam().classes)})
    return model


def _masks_in(
    graph: Graph, found: FoundMasks, resampling: Resampling, label: Value, threshold: float
) -> Any:
    """Return the function that gives one mask to `refine`."""

    def mask_of(run: Value) -> OneMask:
        limit = graph.constant(threshold, "float32")
        part = resampling.part(found.low_res.take(run), limit)
        window = label.slice(0, part.top, part.bottom).slice(1, part.left, part.right)
        score = found.scores.take(run)
        return OneMask(
            part.logits > limit, window, score, lambda values: resampling.whole(values, part)
        )

    return mask_of


def _defaults(bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
    """Return what inputs are where they are not given: the bundle's settings."""
    generator, cam = GeneratorSettings.of(bundle), CamSettings.of(bundle)
    refinement = RefineSettings.of(bundle)
    settings: dict[str, Any] = {**vars(generator), **vars(cam), **vars(refinement)}
    settings["argmax"] = refinement.method == "argmax"
    if settings["max_area_ratio"] is None:
        settings["max_area_ratio"] = np.inf
    numbers = {name: np.array(settings[name], kind) for name, kind in _NUMBERS.items()}
    grid = point_grid(generator.points_per_side or 1)
    return {**numbers, "points": grid.astype(np.float32), "image_labels": np.zeros(0, bool)}


def _model(bundle: Bundle, name: str) -> onnx.ModelProto:
    """Return a graph of a bundle in the operator set of the whole."""
    model = onnx.load(bundle.graph(name).path)
    standard = next(each for each in model.opset_import if not each.domain)
    if standard.version < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    return model


def _info(name: str, dtype: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
