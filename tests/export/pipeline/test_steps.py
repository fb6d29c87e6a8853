"""The steps of whole graphs against the runtime's own, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from PIL import Image

from samrefine_export.graph import OPSET
from samrefine_export.pipeline.builder import Graph, Stacked, Value
from samrefine_export.pipeline.compose import refine_model
from samrefine_export.pipeline.counting import column_counts, count, row_counts
from samrefine_export.pipeline.images import fitted_side, resized
from samrefine_export.pipeline.masks import Resampling, packed
from samrefine_export.pipeline.prompts import points_near
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.image import resized_shape
from samrefine_runtime.masks.masks import Masks
from samrefine_runtime.masks.resample import MaskResampler
from samrefine_runtime.refine import RefineSettings, refine_and_choose
from samrefine_runtime.sam.grids import point_grid, whole_image
from samrefine_runtime.sam.prompts import near_label, points_in

Arrays = Mapping[str, NDArray[Any]]

Write = Callable[..., Sequence[Value]]


def run(model: onnx.ModelProto, feeds: Arrays) -> list[NDArray[Any]]:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[NDArray[Any]] = session.run(None, dict(feeds))
    return outputs


def computed(write: Write, **feeds: NDArray[Any]) -> list[NDArray[Any]]:
    """Run what `write` makes of a graph and values of the given arrays."""
    graph = Graph()
    values = {name: Value(graph, name, array.dtype.name) for name, array in feeds.items()}
    made = write(graph, **values)

    def info(name: str, dtype: str, rank: int | None) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        shape = None if rank is None else [f"{name}_{axis}" for axis in range(rank)]
        return helper.make_tensor_value_info(name, kind, shape)

    model = graph.model(
        [info(name, array.dtype.name, array.ndim) for name, array in feeds.items()],
        [(value, info(f"y{index}", value.dtype, None)) for index, value in enumerate(made)],
        {},
        OPSET,
    )
    for output in model.graph.output:  # the checker wants a shape, whatever it is
        output.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[NDArray[Any]] = session.run(None, feeds)
    return outputs


def test_loops_carry_and_stack() -> None:
    def write(graph: Graph, x: Value) -> Sequence[Value]:
        def body(run: Value, total: Value) -> list[Value]:
            one = x.take(run)
            return [total + one, one * 2.0]

        zero = graph.constant(0, "float32")
        return graph.loop(x.side(0), [zero], body, stacked=[Stacked("float32")])

    values = np.arange(5, dtype=np.float32)
    total, doubled = computed(write, x=values)
    assert total == 10 and np.array_equal(doubled, 2 * values)
    total, doubled = computed(write, x=values[:0])
    assert total == 0 and doubled.shape == (0,)


def test_equal_constants_are_one() -> None:
    graph = Graph()
    assert graph.constant(1, "float32").name == graph.constant(1.0, "float32").name
    assert graph.constant(1, "float32").name != graph.constant(1, "int64").name
    assert graph.constant(1, "int64").name != graph.constant([1], "int64").name


SIDES = st.integers(1, 200)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.booleans(), st.integers(0, 1000))
def test_images_are_resized_as_pillow_does(
    height: int, width: int, to_height: int, to_width: int, cubic: bool, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    kind = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    # From 13 on Pillow may go down first
    wide = Image.fromarray(image).resize((to_width, height), kind)
    expected = np.asarray(wide.resize((to_width, to_height), kind))

    def write(graph: Graph, image: Value, h: Value, w: Value) -> Sequence[Value]:
        return [resized(graph, image, h, w, cubic=cubic)]

    [actual] = computed(
        write,
        image=np.ascontiguousarray(image.transpose(2, 0, 1)),
        h=np.array([to_height]),
        w=np.array([to_width]),
    )
    assert np.array_equal(actual.transpose(1, 2, 0), expected)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
@settings(max_examples=50, deadline=None)
def test_sides_are_fitted(height: int, width: int) -> None:
    def write(graph: Graph, side: Value, longer: Value) -> Sequence[Value]:
        return [fitted_side(graph, side, longer, 1024)]

    longer = np.array([max(height, width)])
    sides = [computed(write, side=np.array([s]), longer=longer)[0][0] for s in (height, width)]
    assert tuple(sides) == resized_shape((height, width), 1024)


def label_of(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Blobs of a few classes and of void."""
    generator = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    for _ in range(generator.integers(0, 5)):
        top, left = generator.integers(0, height), generator.integers(0, width)
        rows, columns = generator.integers(1, height + 1), generator.integers(1, width + 1)
        label[top : top + rows, left : left + columns] = generator.choice([1, 3, 20, 254, 255, 0])
    return label


@given(st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_points_near_the_label(seed: int, height: int, width: int) -> None:
    label, grid = label_of(seed, height, width), point_grid(9)

    def write(graph: Graph, points: Value, label: Value) -> Sequence[Value]:
        return [points_near(graph, points, label, label.side(0), label.side(1))]

    [actual] = computed(write, points=grid, label=label)
    expected = points_in(whole_image(label.shape), grid, near_label(label))
    assert np.allclose(actual * [width, height], expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(375, 500), (61, 17), (1, 1), (700, 90)])
def test_masks_are_resampled_in_their_windows(shape: tuple[int, int]) -> None:
    sam = Bundle.load("demo").require_sam()
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.normal(0, 4, (6, 6)).astype(np.float32))
    low_res = np.asarray(coarse.resize(sam.low_res_shape[::-1], Image.Resampling.BICUBIC)) - 3
    resampler = MaskResampler(sam.low_res_shape, sam.input_side, whole_image(shape).box, shape)
    expected = resampler.mask(low_res, 0.0, 1.0)

    def write(graph: Graph, low_res: Value, image: Value) -> Sequence[Value]:
        resampling = Resampling(graph, sam, image.side(0), image.side(1))
        part = resampling.part(low_res, graph.constant(0.0, "float32"))
        return [resampling.whole((part.logits > 0.0).to("uint8"), part)]

    [actual] = computed(write, low_res=low_res, image=np.zeros(shape, bool))
    mask = Masks.from_runs(shape, [expected.counts]).dense(0)
    assert (actual != mask).mean() <= 2e-4


def test_counts_and_bits() -> None:
    marks = np.random.default_rng(0).random((2, 7, 13)) < 0.4

    def write(graph: Graph, marks: Value) -> Sequence[Value]:
        first = marks.take(graph.constant(0, "int64"))
        bits = packed(graph, first.to("uint8"))
        return [count(graph, marks), row_counts(graph, first), column_counts(graph, first), bits]

    pixels, rows, columns, bits = computed(write, marks=marks)
    assert np.array_equal(pixels, marks.sum((1, 2)))
    assert np.array_equal(rows, marks[0].sum(1)) and np.array_equal(columns, marks[0].sum(0))
    assert np.array_equal(bits, np.packbits(marks[0], axis=1))


REFINE = refine_model()


@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 8),
    st.sampled_from(["max_iou_imp2", "argmax"]),
    st.sampled_from([None, 1.5]),
    st.sampled_from([0.0, 0.87]),
)
@settings(max_examples=80, deadline=None)
def test_labels_are_refined_to_the_pixel(
    seed: int,
    height: int,
    width: int,
    number: int,
    method: str,
    ratio: float | None,
    min_trust: float,
) -> None:
    label, generator = label_of(seed, height, width), np.random.default_rng(seed)
    dense = np.zeros((number, height, width), bool)
    for mask in dense:
        top, left = generator.integers(0, height), generator.integers(0, width)
        mask[top : top + generator.integers(1, height + 1), left:] = True
    scores = generator.uniform(0.5, 1.0, number).astype(np.float32)
    chosen = RefineSettings(
        method=method, max_area_ratio=ratio, min_trust=min_trust, min_inside=0.5
    )
    expected, takers = refine_and_choose(
        label, replace(Masks.from_dense((height, width), dense), predicted_iou=scores), chosen
    )
    feeds = {"pseudo_label": label, "masks": dense, "scores": scores}
    numbers = {"argmax": np.array(method == "argmax"), "min_trust": np.float32(min_trust)}
    numbers["max_area_ratio"] = np.float32(np.inf if ratio is None else ratio)
    feeds |= {name: np.asarray(number) for name, number in numbers.items()}
    actual, taken = run(REFINE, feeds)
    assert np.array_equal(actual, expected)
    assert np.array_equal(taken, takers)


def test_masks_without_scores_are_trusted() -> None:
    label = np.array([[1, 1, 0]], np.uint8)
    feeds = {"pseudo_label": label, "masks": np.ones((1, 1, 3), bool)}
    refined, taken = run(REFINE, {**feeds, "min_trust": np.array(0.9, np.float32)})
    assert refined.tolist() == [[1, 1, 1]] and taken.tolist() == [1]
    refined, _ = run(
        REFINE,
        {**feeds, "min_trust": np.array(0.9, np.float32), "scores": np.array([0.5], np.float32)},
    )
    assert refined.tolist() == label.tolist()
