"""Composes a bundle's networks and what lies between them into one graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.version_converter
from onnx import helper

from samrefine_export.graph import OPSET
from samrefine_export.pipeline.builder import Graph, Stacked, Value
from samrefine_export.pipeline.classes import CamInputs, Classifier
from samrefine_export.pipeline.masks import Filters, FoundMasks, MaskFinder, Resampling, packed
from samrefine_export.pipeline.prompts import points_near
from samrefine_export.pipeline.sepl import OneMask, Rules, refine
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.cam import CamSettings
from samrefine_runtime.labels import IGNORE
from samrefine_runtime.refine import RefineSettings
from samrefine_runtime.sam.grids import point_grid
from samrefine_runtime.sam.settings import GeneratorSettings

_MODELS = ("encoder", "everything_image", "everything_tokens", "everything_masks")

CLASSES = "classes"
"""Metadata of the graph: the names of the foreground classes, one a line."""

Described = tuple[str, Sequence[int | str]]
"""Dtype and shape of an input; texts name axes of any length."""

_IMAGE: Mapping[str, Described] = {"image": ("uint8", ["height", "width", 3])}
_POINTS: Mapping[str, Described] = {"points": ("float64", ["points", 2])}

_NUMBERS: Mapping[str, type] = {
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
    """Return the graph that labels an image: docs/embedding.md says what it takes and gives.

    Raises:
        BundleError: the bundle lacks a part.
    """
    graph = Graph()
    cam, sam = bundle.require_cam(), bundle.require_sam()
    numbers = _numbers(graph)
    photo = _photo(graph)
    # Which classes are in the image and where, roughly
    given = Value(graph, "image_labels", "bool")
    inputs = CamInputs(given, numbers["background_score"], numbers["presence_threshold"])
    classifier = Classifier(graph, _model(bundle, "cam"), cam, CamSettings.of(bundle))
    classes = classifier.label(*photo, inputs)
    # What SAM finds there
    grid = Value(graph, "points", "float64")
    points = points_near(graph, grid, classes.pseudo_label, *photo[1:])
    found, resampling = _found(graph, bundle, numbers, photo, points)
    # Which masks the classes take
    mask_of = _masks_in(graph, found, resampling, classes.pseudo_label, sam.mask_threshold)
    rules = Rules(*(numbers[name] for name in Rules._fields))
    refined = refine(
        graph, classes.pseudo_label, classes.present, found.scores.side(0), mask_of, rules
    )
    outputs = {
        "label": Output(refined.label, ("height", "width")),
        "pseudo_label": Output(classes.pseudo_label, ("height", "width")),
        "probabilities": Output(classes.probabilities, ("classes",)),
        **_described(found),
        "taken_by": Output(refined.taken, ("masks",)),
    }
    kinds = {**_IMAGE, "image_labels": ("bool", ["given"]), **_POINTS}
    model = _finished(graph, {**kinds, **_scalars(_NUMBERS)}, outputs, _defaults(bundle))
    helper.set_model_props(model, {CLASSES: "\n".join(cam.classes)})
    return model


def everything_model(bundle: Bundle) -> onnx.ModelProto:
    """Return the graph of everything mode: an image to all its masks.

    Raises:
        BundleError: the bundle holds no SAM.
    """
    graph = Graph()
    sam = bundle.require_sam()
    numbers, photo = _numbers(graph), _photo(graph)
    points = Value(graph, "points", "float64")
    found, resampling = _found(graph, bundle, numbers, photo, points)

    def pack(run: Value) -> list[Value]:
        limit = graph.constant(sam.mask_threshold, "float32")
        part = resampling.part(found.low_res.take(run), limit)
        return [packed(graph, resampling.whole((part.logits > limit).to("uint8"), part))]

    shape = Stacked("uint8", ("height", "bytes"))
    bits = graph.loop(found.scores.side(0), [], pack, stacked=[shape])[0]
    outputs = {"mask_bits": Output(bits, ("masks", "height", "bytes")), **_described(found)}
    names = {name: _NUMBERS[name] for name in Filters._fields}
    defaults = {name: _defaults(bundle)[name] for name in (*names, "points")}
    return _finished(graph, {**_IMAGE, **_POINTS, **_scalars(names)}, outputs, defaults)


def refine_model() -> onnx.ModelProto:
    """Return the graph of SEPL alone, for programs that have masks of their own."""
    graph = Graph()
    numbers = _numbers(graph)
    label, masks = Value(graph, "pseudo_label", "uint8"), Value(graph, "masks", "bool")
    given = Value(graph, "scores", "float32")
    # Masks without scores are trusted
    [scores] = graph.either(
        given.side(0).squeeze(0) > 0,
        lambda: [given],
        lambda: [graph.full(masks.side(0), 1, "float32")],
    )
    values = graph.ops("Unique", label.reshape(-1).to("int64"), dtypes=["int64"], sorted=1)[0]
    is_class = (values > 0) & (values < IGNORE)
    present = values.take(graph.op("NonZero", is_class, dtype="int64").squeeze(0))

    def mask_of(run: Value) -> OneMask:
        return OneMask(masks.take(run), label, scores.take(run), lambda values: values)

    rules = Rules(*(numbers[name] for name in Rules._fields))
    refined = refine(graph, label, present, masks.side(0), mask_of, rules)
    outputs = {
        "label": Output(refined.label, ("height", "width")),
        "taken_by": Output(refined.taken, ("masks",)),
    }
    names = {name: _NUMBERS[name] for name in Rules._fields}
    kinds: dict[str, Described] = {
        "pseudo_label": ("uint8", ["height", "width"]),
        "masks": ("bool", ["masks", "height", "width"]),
        "scores": ("float32", ["scores"]),
        **_scalars(names),
    }
    defaults = {**_of_settings(vars(RefineSettings()), names), "scores": np.zeros(0, np.float32)}
    return _finished(graph, kinds, outputs, defaults)


class Output(NamedTuple):
    """An output of a whole graph."""

    value: Value
    shape: tuple[int | str, ...]
    """Of each axis its length, or a name."""


def _photo(graph: Graph) -> tuple[Value, Value, Value]:
    """Return the image as planes (3, H, W) uint8, and its height and width, (1,) int64 each."""
    image = Value(graph, "image", "uint8")
    return image.transpose(2, 0, 1), image.side(0), image.side(1)


def _numbers(graph: Graph) -> dict[str, Value]:
    return {name: Value(graph, name, np.dtype(kind).name) for name, kind in _NUMBERS.items()}


def _found(
    graph: Graph,
    bundle: Bundle,
    numbers: Mapping[str, Value],
    photo: tuple[Value, Value, Value],
    points: Value,
) -> tuple[FoundMasks, Resampling]:
    """Return the masks of points (N, 2), and what resamples them to the image."""
    sam = bundle.require_sam()
    resampling = Resampling(graph, sam, *photo[1:])
    filters = Filters(*(numbers[name] for name in Filters._fields))
    finder = MaskFinder(graph, {name: _model(bundle, name) for name in _MODELS}, sam, filters)
    return finder.find(finder.pixels(*photo), points, resampling), resampling


def _described(found: FoundMasks) -> dict[str, Output]:
    return {
        "boxes": Output(found.boxes, ("masks", 4)),
        "scores": Output(found.scores, ("masks",)),
        "stability_scores": Output(found.stability, ("masks",)),
    }


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
    """Return what the inputs of `label_model` are where they are not given: the bundle's own."""
    generator, cam = GeneratorSettings.of(bundle), CamSettings.of(bundle)
    settings = {**vars(generator), **vars(cam), **vars(RefineSettings.of(bundle))}
    grid = point_grid(generator.points_per_side) if generator.points_per_side else None
    points = generator.point_grids[0] if grid is None else grid  # type: ignore[index]
    return {
        **_of_settings(settings, _NUMBERS),
        "points": np.asarray(points, np.float64),
        "image_labels": np.zeros(0, bool),
    }


def _of_settings(
    settings: Mapping[str, Any], names: Mapping[str, type]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return numbers from settings by field."""
    ratio = settings.get("max_area_ratio")
    derived = {
        "argmax": settings.get("method") == "argmax",
        "max_area_ratio": np.inf if ratio is None else ratio,
    }
    return {name: np.array({**settings, **derived}[name], kind) for name, kind in names.items()}


def _model(bundle: Bundle, name: str) -> onnx.ModelProto:
    """Return a graph of a bundle in the operator set of the whole."""
    model = onnx.load(bundle.graph(name).path)
    standard = next(each for each in model.opset_import if not each.domain)
    if standard.version < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    return model


def _scalars(names: Mapping[str, type]) -> dict[str, Described]:
    return {name: (np.dtype(kind).name, []) for name, kind in names.items()}


def _finished(
    graph: Graph,
    inputs: Mapping[str, Described],
    outputs: Mapping[str, Output],
    defaults: Mapping[str, np.ndarray[Any, Any]],
) -> onnx.ModelProto:
    return graph.model(
        [_info(name, *described) for name, described in inputs.items()],
        [(value, _info(name, value.dtype, shape)) for name, (value, shape) in outputs.items()],
        defaults,
        OPSET,
    )


def _info(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
