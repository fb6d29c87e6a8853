"""Every public entry on wrong arguments of every kind, and on the natural forms it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import samrefine_rt
from samrefine_rt import (
    Bundle,
    CamClassifier,
    CamSettings,
    FormatSettings,
    Labeler,
    LabelResult,
    MaskGenerator,
    Masks,
    Predictor,
    Refiner,
    RefineSettings,
    SamrefineError,
    Segmenter,
    SessionOptions,
    bench,
    cam_to_label,
    evaluate,
    read_image,
    read_image_labels,
    read_label,
    read_labels,
    read_stored_masks,
    refine_labels,
    verify,
    write_label,
    write_labels,
    write_report,
)
from samrefine_runtime.bundle import EMBEDDED
from samrefine_runtime.engines import EngineSettings
from samrefine_runtime.errors import BundleError, ImageError, LabelError, SettingsError
from samrefine_runtime.sam.settings import GeneratorSettings
from samrefine_runtime.settings import domains
from tests.samples import ONE_THREAD, synthetic
from tests.wrong_values import PATH, WRONG, Kind, assert_says_what_is_expected, wrong_values

IMAGE = synthetic((40, 60))
LABEL = np.zeros((40, 60), np.uint8)
LABEL[10:30, 20:40] = 1
NAN = float("nan")

BUNDLE = Kind(("text",), (Path("nul\0l"), np.zeros(3)))
SETTINGS = Kind(
    ("none", "empty dict"), ("max_iou", RefineSettings, SamrefineError("x"), [("a", 1)])
)
FLAG = Kind(("true",), ("true", 0, np.bool_(True)))
PROGRESS = Kind(("none", "function"))
IMAGE_KIND = Kind(
    ("text",),
    (
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), bool),
        np.zeros((4, 5, 3)).tolist(),
        Image.new("RGB", (0, 3)),
        Image.new("F", (2, 2)).getdata,
    ),
)
IMAGES = Kind(("texts", "nones", "ragged"), (IMAGE, (IMAGE for _ in range(2)), {"a": IMAGE}))
"""What is in the list is tried as an image of its own, by other entries."""
REPEATS = Kind(("whole",), (0, "5", np.float32(2)))
LABEL_KIND = Kind(
    ("text",),
    (LABEL.astype(np.int64), LABEL[..., None], LABEL / 2, LABEL > 0, LABEL.tolist(), LABEL[0]),
)
IMAGE_LABELS = Kind(
    ("none", "empty list"),
    (
        np.ones(3, np.uint8),
        np.ones((1, 3), bool),
        np.ones(2, bool),
        [True, False],
        "red",
        ["red", 5],
        ["rde"],
        {"red", "rde"},
        {"red": True},
        iter(["red"]),
    ),
)
POINTS = Kind(
    ("none",), ([1, 2], [[1, 2, 3]], [["1", "2"]], [[NAN, 1]], [[1, float("inf")]], [[1j, 1]])
)
POINT_LABELS = Kind(("none",), ([[1]], [1, 0], ["1"], [NAN], [7], [0.5]))
BOX = Kind(
    ("none",), ([1, 2, 3], [[1, 2, 3, 4]] * 2, [[1, 2], [3, 4]], [1, 2, 3, NAN], ["1", 2, 3, 4])
)
MASK_INPUT = Kind(("none",), (np.zeros((64, 64)), np.zeros((1, 32, 32)), np.full((1, 64, 64), NAN)))
MANY_POINTS = Kind(("none",), ([[1, 2]], [[[1, 2, 3]]], [[["1", "2"]]], [[[NAN, 1]]]))
MANY_LABELS = Kind(("none",), ([1], [[1, 0]], [["1"]], [[NAN]], [[7]]))
BOXES = Kind(("none",), ([1, 2, 3, 4], [[1, 2, 3]], [[1, 2, 3, NAN]], [[1, 2, 3, 4]] * 2))
MASK_INPUTS = Kind(("none",), (np.zeros((1, 64, 64)), np.zeros((1, 1, 32, 32))))
LOW_RES = Kind((), (np.zeros((64, 64)), np.zeros((1, 32, 32)), np.full((1, 64, 64), NAN)))
REGION = Kind(
    ("none",), (np.ones((9, 9), bool), np.ones((40, 60), np.uint8), np.ones((40, 60, 1), bool))
)
MASKS = Kind((), (np.ones((2, 40, 60), bool), [np.ones((40, 60), bool)], Masks))
SHAPE = Kind((), ((0, 3), (2, 3, 3), (2.5, 3), ("2", "3"), (-2, 3), np.zeros((2, 2), int)))
DENSE = Kind(
    ("empty list", "empty dict", "empty array", "empty text"),
    (
        np.ones((2, 3), bool),
        np.ones((1, 2, 3), np.uint8),
        np.ones((1, 3, 2), bool),
        [np.ones((2, 3), bool), None],
        [[[True, 1, 2], [0, 0, 0]]],
    ),
)
RUNS = Kind(
    ("empty list", "empty dict", "empty array", "empty text"),
    ([[1, 2]], [[6], [7]], [[0.5, 5.5]], [[-1, 7]], [[[6]]], [6], [["6"]], [[]]),
)
COLUMN = Kind(("none",), ([[[1]]], [1] * 9, ["a", "b"]))
SELECTED = Kind(
    ("negative", "empty list", "empty array"),
    (3, -4, [3], [0.5], ["0"], [[0]], [True], slice("a"), slice(0, 3, 0), np.True_, (0, 1), ...),
)
FORMAT = Kind((), ("pgn", "coco-rle", ["png"]))
FORMATS = Kind(("empty list",), ("voc", ["coco", "ylo"], {"voc"}))
NAMES = Kind(("empty list", "texts"), ("red", {"red"}, ["red", 5]))
CLASSES = Kind(("text", "texts"), ({"red"}, ["red", 5], ["red", "red"]))
LABELS = Kind(
    ("empty list", "empty array"),
    ([("a.jpg", LABEL), 5], [("a.jpg",)], [(5, LABEL)], [("a/x.jpg", LABEL), ("b/x.png", LABEL)]),
)
RESULTS = Kind((), ([LABEL], [(LABEL, LABEL)], LabelResult, "results"))
PARTS = Kind((), ([LABEL], Masks, [None]))
INDEX = Kind(("negative", "true"), ("0", 3, -4, 0.0, slice(0, 1), [0], np.array([0])))
INDICES = Kind(
    ("empty list", "empty array"), ([3], [-4], [0.5], ["0"], [[0]], [True], 0, slice(0, 1), [NAN])
)
MAPS = Kind((), (np.zeros((2, 3)), np.zeros((3, 2, 3)), np.full((2, 2, 3), NAN), [[["a"]]]))
VALUES = Kind((), ([1], [0, 1], [1, 255], [1.0, 2.0], [[1, 2]], ["red", "blue"], [True, False]))
BACKGROUND = Kind((), (-0.1, 1.5, np.zeros((3, 3)), np.full((2, 3), NAN), [[0, 0]], [0.1, 0.2]))
COUNT = Kind(("whole",), (1, 256, 21.0, "21", NAN))
PALETTE = Kind((), ([[1, 2]], [[0, 0, 256]], [[-1, 0, 0]], np.zeros((257, 3), int), [[0.5, 0, 0]]))
MODE = Kind((), ("png", OSError, ("coco_rle",)))
NAME = Kind((), ("enc",))
SIDE = Kind(("none", "whole", "huge"), (0, 2.0, "4", [4]))


@dataclass(frozen=True)
class World:
    """What the entries are called with and on."""

    folder: Path
    bundle: Bundle
    classifier: CamClassifier
    generator: MaskGenerator
    predictor: Predictor
    segmenter: Segmenter
    labeler: Labeler
    refiner: Refiner
    result: LabelResult
    masks: Masks


@pytest.fixture(scope="module")
def world(lively_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("arguments")
    Image.fromarray(IMAGE).save(folder / "image.png")
    for name in ("label.png", "predictions/a.png", "truth/a.png"):
        write_label(folder / name, LABEL)
    bundle, session = Bundle.load(lively_bundle), SessionOptions(threads=1)
    predictor = Predictor(bundle, session=session)
    predictor.set_image(IMAGE)
    (folder / "labels.csv").write_text("image,labels\na,red\n")
    masks = Masks.from_dense((40, 60), [LABEL == 0, LABEL == 1, LABEL > 5])
    masks.save(folder / "masks.json")
    refiner = Refiner(bundle, ["red"], generator={"points_per_side": 2}, session=session)
    return World(
        folder=folder,
        bundle=bundle,
        classifier=CamClassifier(bundle, session=session),
        generator=MaskGenerator(bundle, points_per_side=2, session=session),
        predictor=predictor,
        segmenter=Segmenter(bundle, session=session),
        labeler=Labeler(bundle, generator={"points_per_side": 2}, session=session),
        refiner=refiner,
        result=refiner.refine(folder / "image.png", LABEL),
        masks=masks,
    )


@dataclass(frozen=True)
class Entry:
    """A public function, class or method, and how it is called."""

    of: Callable[[World], Callable[..., Any]]
    good: Callable[[World], dict[str, Any]]
    """Arguments with which it succeeds."""
    kinds: Mapping[str, Kind]
    """The kind of each parameter that is replaced by wrong values."""


SESSION = {"bundle": BUNDLE, "session": SETTINGS}
SHARING = {**SESSION, "encoder": Kind(("none",))}
ENTRIES: Mapping[str, Entry] = {
    "read_image": Entry(
        lambda w: read_image, lambda w: {"path": w.folder / "image.png"}, {"path": PATH}
    ),
    "read_label": Entry(
        lambda w: read_label, lambda w: {"path": w.folder / "label.png"}, {"path": PATH}
    ),
    "write_label": Entry(
        lambda w: write_label,
        lambda w: {"path": w.folder / "out.png", "label": LABEL},
        {"path": PATH, "label": Kind((), (*LABEL_KIND.more, "nonsense")), "palette": PALETTE},
    ),
    "evaluate": Entry(
        lambda w: evaluate,
        lambda w: {"predictions": w.folder / "predictions", "ground_truth": w.folder / "truth"},
        {"predictions": PATH, "ground_truth": PATH, "num_classes": COUNT, "progress": PROGRESS},
    ),
    "refine_labels": Entry(
        lambda w: refine_labels,
        lambda w: {"pseudo_label": LABEL, "masks": w.masks},
        {"pseudo_label": LABEL_KIND, "masks": MASKS, "method": MODE},
    ),
    "cam_to_label": Entry(
        lambda w: cam_to_label,
        lambda w: {"maps": np.ones((2, 2, 3)), "classes": [1, 3]},
        {"maps": MAPS, "classes": VALUES, "background": BACKGROUND},
    ),
    "Bundle.load": Entry(
        lambda w: Bundle.load,
        lambda w: {"path": w.bundle.path},
        {"path": BUNDLE, "check_hashes": FLAG},
    ),
    "Bundle.graph": Entry(lambda w: w.bundle.graph, lambda w: {"name": "encoder"}, {"name": NAME}),
    "Bundle.graphs_in": Entry(
        lambda w: halved(w.bundle).graphs_in, lambda w: {"variant": "fp16"}, {"variant": NAME}
    ),
    "CamClassifier": Entry(
        lambda w: CamClassifier, lambda w: {"bundle": w.bundle}, {**SESSION, "settings": SETTINGS}
    ),
    "CamClassifier.run": Entry(
        lambda w: w.classifier.run,
        lambda w: {"image": IMAGE},
        {"image": IMAGE_KIND, "image_labels": IMAGE_LABELS},
    ),
    "MaskGenerator": Entry(
        lambda w: MaskGenerator,
        lambda w: {"bundle": w.bundle},
        {**SESSION, "points_per_side": SIDE},
    ),
    "MaskGenerator.generate": Entry(
        lambda w: w.generator.generate,
        lambda w: {"image": IMAGE},
        {
            "image": IMAGE_KIND,
            "pseudo_label": Kind(("none", "text"), LABEL_KIND.more),
            "region": REGION,
            "progress": PROGRESS,
        },
    ),
    "MaskGenerator.records": Entry(
        lambda w: w.generator.records, lambda w: {"image": IMAGE}, {"image": IMAGE_KIND}
    ),
    "Predictor": Entry(lambda w: Predictor, lambda w: {"bundle": w.bundle}, SHARING),
    "Predictor.set_image": Entry(
        lambda w: w.predictor.set_image, lambda w: {"image": IMAGE}, {"image": IMAGE_KIND}
    ),
    "Predictor.predict": Entry(
        lambda w: w.predictor.predict,
        lambda w: {"point_coords": [[20, 10]], "point_labels": [1]},
        {
            "point_coords": POINTS,
            "point_labels": POINT_LABELS,
            "box": BOX,
            "mask_input": MASK_INPUT,
            "multimask_output": FLAG,
            "return_logits": FLAG,
        },
    ),
    "Predictor.predict_logits": Entry(
        lambda w: w.predictor.predict_logits,
        lambda w: {"point_coords": [[20, 10]], "point_labels": [1]},
        {
            "point_coords": POINTS,
            "point_labels": POINT_LABELS,
            "box": BOX,
            "mask_input": MASK_INPUT,
            "multimask_output": FLAG,
        },
    ),
    "Predictor.predict_low_res": Entry(
        lambda w: w.predictor.predict_low_res,
        lambda w: {"point_coords": [[[20, 10]]], "point_labels": [[1]]},
        {
            "point_coords": MANY_POINTS,
            "point_labels": MANY_LABELS,
            "boxes": BOXES,
            "mask_input": MASK_INPUTS,
            "multimask_output": FLAG,
        },
    ),
    "Predictor.to_image": Entry(
        lambda w: w.predictor.to_image,
        lambda w: {"low_res": np.zeros((1, 64, 64))},
        {"low_res": LOW_RES},
    ),
    "Segmenter": Entry(lambda w: Segmenter, lambda w: {"bundle": w.bundle}, SHARING),
    "Segmenter.boxes": Entry(
        lambda w: w.segmenter.boxes,
        lambda w: {"image": IMAGE, "boxes": [[5, 5, 40, 30]]},
        {
            "image": IMAGE_KIND,
            "boxes": Kind(("empty list", "empty array"), BOXES.more[:3]),
            "values": Kind(("none",), ([0], [255], [1, 2], [1.0], ["1"], 1)),
            "progress": PROGRESS,
        },
    ),
    "Segmenter.points": Entry(
        lambda w: w.segmenter.points,
        lambda w: {"image": IMAGE, "point_coords": [[20, 10]], "point_labels": [1]},
        {
            "image": IMAGE_KIND,
            "point_coords": Kind((), POINTS.more),
            "point_labels": Kind((), POINT_LABELS.more),
            "box": BOX,
            "value": Kind(("whole",), (0, 255, 1.0, "1")),
            "mask_input": MASK_INPUT,
        },
    ),
    "Labeler": Entry(
        lambda w: Labeler,
        lambda w: {"bundle": w.bundle},
        {**SESSION, "generator": SETTINGS, "cam": SETTINGS, "refinement": SETTINGS},
    ),
    "Labeler.label": Entry(
        lambda w: w.labeler.label,
        lambda w: {"image": IMAGE},
        {"image": IMAGE_KIND, "image_labels": IMAGE_LABELS, "progress": PROGRESS},
    ),
    "Refiner": Entry(
        lambda w: Refiner,
        lambda w: {"bundle": w.bundle},
        {
            **SESSION,
            "classes": Kind(("none", *CLASSES.natural), CLASSES.more),
            "generator": SETTINGS,
            "refinement": SETTINGS,
        },
    ),
    "Refiner.refine": Entry(
        lambda w: w.refiner.refine,
        lambda w: {"image": IMAGE, "pseudo_label": LABEL},
        {"image": IMAGE_KIND, "pseudo_label": LABEL_KIND, "progress": PROGRESS},
    ),
    "LabelResult.save": Entry(
        lambda w: w.result.save,
        lambda w: {"path": w.folder / "saved", "formats": ["yolo"]},
        {"path": PATH, "formats": Kind(("none", "empty list"), FORMATS.more)},
    ),
    "LabelResult.summary": Entry(
        lambda w: w.result.summary, lambda w: {"classes": ["red"]}, {"classes": NAMES}
    ),
    "write_labels": Entry(
        lambda w: write_labels,
        lambda w: {
            "folder": w.folder / "set",
            "labels": [(w.folder / "image.png", LABEL)],
            "classes": ["red"],
        },
        {"folder": PATH, "labels": LABELS, "classes": CLASSES, "formats": FORMATS}
        | {"settings": SETTINGS},
    ),
    "read_labels": Entry(
        lambda w: read_labels,
        lambda w: {"where": w.folder / "predictions"},
        {
            "where": PATH,
            "classes": Kind(("none", *CLASSES.natural), CLASSES.more),
            "format": Kind(("none",), FORMAT.more),
            "images": Kind(("none", "empty dict"), ({"a": 5}, [("a", "a.jpg")])),
        },
    ),
    "write_report": Entry(
        lambda w: write_report,
        lambda w: {"path": w.folder / "report.html", "results": [(w.result, LABEL)]},
        {"path": PATH, "results": RESULTS},
    ),
    "read_image_labels": Entry(
        lambda w: read_image_labels,
        lambda w: {"path": w.folder / "labels.csv", "classes": ["red"]},
        {"path": PATH, "classes": NAMES},
    ),
    "read_stored_masks": Entry(
        lambda w: read_stored_masks,
        lambda w: {"where": w.folder, "image_id": "masks"},
        {"where": PATH, "image_id": PATH, "image_shape": Kind(("none",), SHAPE.more)},
    ),
    "verify": Entry(
        lambda w: verify,
        lambda w: {"bundle": w.bundle, "images": [IMAGE], "session": ONE_THREAD},
        {
            **SESSION,
            "images": IMAGES,
            "reference": SETTINGS,
            "tolerances": SETTINGS,
            "progress": PROGRESS,
        },
    ),
    "bench": Entry(
        lambda w: bench,
        lambda w: {
            "bundle": w.bundle,
            "images": [IMAGE],
            "session": ONE_THREAD,
            "repeats": 1,
            "points_per_side": 2,
        },
        {**SESSION, "images": IMAGES, "repeats": REPEATS, "points_per_side": REPEATS}
        | {"progress": PROGRESS},
    ),
    "Masks": Entry(
        lambda w: Masks,
        lambda w: {field.name: getattr(w.masks, field.name) for field in fields(Masks)},
        {
            "image_shape": SHAPE,
            **{field.name: Kind((), COLUMN.more) for field in fields(Masks)[1:]},
        },
    ),
    "Masks.from_runs": Entry(
        lambda w: Masks.from_runs,
        lambda w: {"image_shape": (2, 3), "runs": [np.array([1, 5]), np.array([6])]},
        {
            "image_shape": SHAPE,
            "runs": RUNS,
            **{field.name: COLUMN for field in fields(Masks)[3:]},
            "point_coords": Kind(("none", "nan array"), COLUMN.more),
        },
    ),
    "Masks.from_dense": Entry(
        lambda w: Masks.from_dense,
        lambda w: {"image_shape": (2, 3), "masks": np.ones((1, 2, 3), bool)},
        {"image_shape": SHAPE, "masks": DENSE},
    ),
    "Masks.concatenate": Entry(
        lambda w: Masks.concatenate, lambda w: {"parts": [w.masks]}, {"parts": PARTS}
    ),
    "Masks.select": Entry(lambda w: w.masks.select, lambda w: {"index": [0]}, {"index": INDICES}),
    "Masks.dense": Entry(lambda w: w.masks.dense, lambda w: {"index": 0}, {"index": INDEX}),
    "Masks.runs": Entry(lambda w: w.masks.runs, lambda w: {"index": 0}, {"index": INDEX}),
    "Masks.__getitem__": Entry(
        lambda w: w.masks.__getitem__, lambda w: {"index": slice(0, 2)}, {"index": SELECTED}
    ),
    "Masks.save": Entry(
        lambda w: w.masks.save,
        lambda w: {"path": w.folder / "saved.json"},
        {"path": PATH, "format": FORMAT},
    ),
    "Masks.to_records": Entry(lambda w: w.masks.to_records, lambda w: {}, {"output_mode": MODE}),
    **{
        f"{kind.__name__}.of": Entry(
            lambda w, kind=kind: kind.of,  # type: ignore[misc]
            lambda w: {"bundle": w.bundle},
            {"bundle": Kind(("none", "text")) if kind is RefineSettings else BUNDLE},
        )
        for kind in (CamSettings, RefineSettings, GeneratorSettings)
    },
}


def halved(bundle: Bundle) -> Bundle:
    """The bundle as if its graphs were there in fp16, too."""
    graphs = bundle.graphs.items()
    return replace(bundle, graphs={n: replace(g, variants={"fp16": g}) for n, g in graphs})


def wrong_calls() -> Iterator[Any]:
    """Yield (entry, parameter, wrong value) of every wrong call."""
    for name, entry in ENTRIES.items():
        for parameter, kind in entry.kinds.items():
            for key, value in wrong_values(kind):
                yield pytest.param(name, parameter, value, id=f"{name}-{parameter}-{key}")


def test_every_public_name_is_tried() -> None:
    tried = {name.partition(".")[0] for name in ENTRIES}
    # Engines need a machine: tests/runtime/engines/test_standin_build.py tries them; `doctor` has
    # no arguments, and nobody makes a CamResult, StoredLabels
    # or an error
    elsewhere = {"SessionOptions", "EngineSettings", "FormatSettings", "build_engines", "doctor"}
    elsewhere |= {"CamResult", "StoredLabels"}
    elsewhere |= {name for name in samrefine_rt.__all__ if name.endswith("Error")}
    assert tried | elsewhere >= set(samrefine_rt.__all__)
    for name in tried & set(samrefine_rt.__all__):
        made = getattr(samrefine_rt, name)
        methods = {
            key for key, value in vars(made).items() if key[0] != "_" and has_arguments(value)
        }
        assert methods <= {key.partition(".")[2] for key in ENTRIES if key.startswith(f"{name}.")}


def has_arguments(value: Any) -> bool:
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return code is not None and code.co_argcount + code.co_kwonlyargcount > 1


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_succeed_with_what_they_document(world: World, name: str) -> None:
    entry = ENTRIES[name]
    entry.of(world)(**entry.good(world))


@pytest.mark.parametrize(("name", "parameter", "value"), list(wrong_calls()))
def test_wrong_calls_say_what_is_expected(
    world: World, name: str, parameter: str, value: Any
) -> None:
    entry = ENTRIES[name]
    with pytest.raises(SamrefineError) as caught:
        entry.of(world)(**{**entry.good(world), parameter: value})
    assert_says_what_is_expected(caught.value, parameter)


SETTINGS_KINDS = [
    *(CamSettings, RefineSettings, GeneratorSettings),
    *(SessionOptions, EngineSettings, FormatSettings),
]


@pytest.mark.parametrize("kind", SETTINGS_KINDS)
@pytest.mark.parametrize("key", WRONG)
def test_settings_say_what_they_expect(kind: Any, key: str) -> None:
    """Every field, with every value that it may not have."""
    for field in fields(kind):
        domain = domains(kind).get(field.name)
        if key == "huge" and domain is not None and not domain.has_most:
            continue
        grids = {"points_per_side": None} if field.name == "point_grids" else {}
        try:
            kind(**{**grids, field.name: WRONG[key]})
        except SettingsError as error:
            assert field.name in str(error) and str(error).isprintable()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SessionOptions(threads=-1), "threads is -1, expected a whole number"),
        (lambda: SessionOptions(backend=np.zeros(3)), r"backend is \(3,\) float64, expected a te"),
        (lambda: SessionOptions(frees_memory=1), "frees_memory is 1, expected true or false"),
        (lambda: GeneratorSettings(memory_mb=-5), "memory_mb is -5, expected a whole number"),
        (
            lambda: GeneratorSettings(points_per_side=None, point_grids=5),
            r"point_grids is 5, expected a list of points \(N, 2\)",
        ),
        (
            lambda: GeneratorSettings(points_per_side=None, point_grids=[[[0.5, 1.1]]]),
            r"point_grids\[0\] has values from 0.5 to 1.1, expected points \(N, 2\) XY in \[0, 1\]",
        ),
        (lambda: CamSettings(scales="12"), "scales is '12', expected a list of numbers"),
        (lambda: CamSettings(scales=[10**400]), "scales is .*, expected a list of numbers"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


def test_a_name_that_nearly_is_a_class(world: World) -> None:
    with pytest.raises(LabelError, match="unknown class 'rde', did you mean red"):
        world.labeler.label(IMAGE, ["rde"])


def test_a_text_that_is_no_setting(world: World) -> None:
    """The message shows that `method` is a field."""
    with pytest.raises(
        SettingsError, match=r"^refinement is 'max_iou', expected .* its fields .met"
    ):
        Labeler(world.bundle, refinement="max_iou")


class Unreadable:
    """As a tensor that is on a device."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not here")


def test_objects_that_fail_to_become_arrays(world: World) -> None:
    with pytest.raises(SettingsError, match="box is a Unreadable, expected"):
        world.predictor.predict(box=Unreadable())


# Natural forms: each gives what the canonical form gives


FORMS: Mapping[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda path: path,
    "pillow": lambda path: Image.fromarray(IMAGE),
    "view": lambda path: np.asfortranarray(IMAGE),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_an_image(world: World, form: str) -> None:
    image = FORMS[form](world.folder / "image.png")
    expected, actual = world.labeler.label(IMAGE), world.labeler.label(image)
    assert np.array_equal(actual.label, expected.label)
    assert np.array_equal(actual.cam.maps, expected.cam.maps)
    assert_same(world.generator.generate(image), world.generator.generate(IMAGE))
    world.predictor.set_image(image)
    embedding = world.predictor.get_image_embedding()
    world.predictor.set_image(IMAGE)
    assert np.array_equal(embedding, world.predictor.get_image_embedding())


def test_pillow_images_are_read_as_files_are(world: World) -> None:
    """Upright, and converted from any mode."""
    path = world.folder / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    gray = Image.fromarray(IMAGE).convert("L")
    gray.save(path, exif=exif)
    with Image.open(path) as image:
        result = world.classifier.run(image, ["red"])
    assert result.maps.shape[1:] == (60, 40)
    assert np.array_equal(result.maps, world.classifier.run(read_image(path), ["red"]).maps)


def test_pillow_images_that_are_damaged(world: World) -> None:
    path = world.folder / "damaged.png"
    path.write_bytes((world.folder / "image.png").read_bytes()[:-200])
    with Image.open(path) as image, pytest.raises(ImageError, match="image is not readable"):
        world.classifier.run(image)


@pytest.mark.parametrize(
    "names",
    [
        ["red", "blue"],
        ("blue", "red", "red"),
        {"red", "blue"},
        [True, False, True],
        np.array([True, False, True]),
    ],
    ids=lambda names: type(names).__name__,
)
def test_forms_of_image_labels(world: World, names: Any) -> None:
    result = world.labeler.label(IMAGE, names)
    expected = world.labeler.label(IMAGE, np.array([True, False, True]))
    assert result.cam.classes.tolist() == [1, 3]
    assert np.array_equal(result.label, expected.label)


def test_no_names_are_no_classes(world: World) -> None:
    assert world.classifier.run(IMAGE, []).classes.shape == (0,)


@pytest.mark.parametrize("form", [str, Path])
@pytest.mark.parametrize("made", [CamClassifier, Labeler, MaskGenerator, Predictor, Segmenter])
def test_forms_of_a_bundle(world: World, made: Any, form: Any) -> None:
    opened = made(form(world.bundle.path), session={"threads": 1})
    assert vars(opened).keys() == vars(made(world.bundle)).keys()


def test_a_bundle_by_name(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setitem(EMBEDDED, "demo", world.bundle.path)
    assert CamClassifier("demo").classes == world.classifier.classes
    assert CamSettings.of("demo") == CamSettings.of(world.bundle)
    with pytest.raises(BundleError, match="bundle nowhere does not exist"):
        CamClassifier("nowhere")


def test_settings_as_dicts_come_over_the_bundles(world: World) -> None:
    labeler = Labeler(
        world.bundle,
        generator={"points_per_side": 3},
        cam={"flip": False, "scales": [1]},
        refinement={"method": "argmax"},
        session={"threads": 1},
    )
    assert labeler.classifier.settings == CamSettings.of(world.bundle, flip=False, scales=(1.0,))
    assert labeler.refinement == RefineSettings.of(world.bundle, method="argmax")
    guided = GeneratorSettings.of(world.bundle, prompts="guided", points_per_side=3)
    assert labeler.generator.settings == guided
    assert CamClassifier(world.bundle, {"flip": False}).settings.flip is False


def test_settings_as_objects_are_taken_as_they_are(world: World) -> None:
    chosen = GeneratorSettings(points_per_side=3, pred_iou_thresh=0.1)
    assert Labeler(world.bundle, generator=chosen).generator.settings == chosen
    grids = GeneratorSettings(points_per_side=None, point_grids=[[[0.5, 0.5]]])
    assert Labeler(world.bundle, generator=grids).generator.settings.grids()[0].shape == (1, 2)


def test_forms_of_prompts(world: World) -> None:
    predict = world.predictor.predict
    expected = predict(np.array([[20.0, 10.0]]), np.array([1.0]), np.array([5.0, 5, 40, 30]))
    start = expected[2][:1]
    for box in ([5, 5, 40, 30], (5, 5, 40, 30), [[5, 5, 40, 30]], np.int32([5, 5, 40, 30])):
        for labels in ([1], (True,), np.ones(1, np.int8)):
            assert_equal(predict([[20, 10]], labels, box), expected)
    assert_equal(
        predict(box=[5, 5, 40, 30], mask_input=start.tolist()),
        predict(box=[5, 5, 40, 30], mask_input=start),
    )
    low_res, scores = world.predictor.predict_low_res([[[20, 10]]], [[1]], [[5, 5, 40, 30]])
    assert_equal((scores[0], low_res[0]), expected[1:])
    logits = world.predictor.to_image(low_res[0].tolist())
    assert np.array_equal(logits > world.predictor.mask_threshold, expected[0])
    assert world.predictor.to_image(np.zeros((0, 64, 64))).shape == (0, 40, 60)


def test_forms_of_a_pseudo_label(world: World) -> None:
    path = world.folder / "label.png"
    expected = refine_labels(LABEL, world.masks)
    assert np.array_equal(refine_labels(path, world.masks), expected)
    assert np.array_equal(refine_labels(str(path), world.masks), expected)
    made = MaskGenerator(world.bundle, points_per_side=4, prompts="guided", session={"threads": 1})
    from_file = made.generate(IMAGE, pseudo_label=path)
    assert len(from_file) > 0
    assert_same(from_file, made.generate(IMAGE, pseudo_label=LABEL))


def test_forms_of_maps() -> None:
    maps = np.array([[[0.1, 0.9]], [[0.5, 0.2]]], np.float32)
    expected = cam_to_label(maps, np.array([1, 3]), np.full((1, 2), 0.15, np.float32))
    for background in (0.15, np.float32(0.15), [[0.15, 0.15]]):
        assert_equal(cam_to_label(maps.tolist(), [1, 3], background), expected)
    label, confidence = cam_to_label(np.zeros((0, 2, 3)), [])
    assert not label.any() and (confidence == 1).all()


def test_forms_of_a_selection(world: World) -> None:
    masks = world.masks
    expected = masks.select(np.array([2, 0]))
    assert_same(masks.select([2, 0]), expected)
    assert_same(masks.select([-1, -3]), expected)
    assert_same(masks.select([True, False, True]), masks.select([0, 2]))
    assert len(masks.select([])) == len(masks.select(np.zeros(0))) == 0
    assert np.array_equal(masks.dense(-1), masks.dense(2))


def test_masks_of_lists() -> None:
    made = Masks(
        image_shape=[2, 3],
        counts=[1, 5, 6],
        offsets=[0, 2, 3],
        boxes=[[0, 0, 2, 1]] * 2,
        predicted_iou=[0.9, 1],
        stability_score=[1, 1],
        point_coords=[[NAN, 1]] * 2,
        crop_boxes=[[0, 0, 3, 2]] * 2,
    )
    assert made.image_shape == (2, 3)
    assert made.counts.dtype == np.uint32 and made.offsets.dtype == np.int64
    assert made.dense(0).tolist() == [[False, True, True], [True] * 3]
    runs: Any = [[1, 5], [6]]
    assert_same(Masks.from_runs(np.array([2, 3]), runs, **made.attributes()), made)


def test_a_palette_of_lists(world: World) -> None:
    path = world.folder / "red.png"
    write_label(str(path), LABEL, [[0, 0, 0], [255, 0, 0]])
    assert np.array_equal(read_label(path), LABEL)
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((30, 20)) == (255, 0, 0)


def test_no_progress_is_none(world: World) -> None:
    assert_same(world.generator.generate(IMAGE, progress=None), world.generator.generate(IMAGE))


def assert_equal(actual: Any, expected: Any) -> None:
    for mine, theirs in zip(actual, expected, strict=True):
        assert np.array_equal(mine, theirs)


def assert_same(actual: Masks, expected: Masks) -> None:
    for field in fields(Masks):
        mine, theirs = getattr(actual, field.name), getattr(expected, field.name)
        assert np.array_equal(mine, theirs, equal_nan=field.name == "point_coords"), field.name
