"""Engines that are wrong in one way each, and what `verify` says of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.diagnosis.feeds import sam_feeds
from samrefine_runtime.diagnosis.verify import LABELS, Comparison, Tolerances, _measured, verify
from samrefine_runtime.errors import BackendError, SettingsError
from tests.samples import ONE_THREAD, synthetic

Outputs = dict[str, NDArray[Any]]
Spoil = Callable[[Outputs], object]
"""Changes the outputs of a graph in place."""

WRONG = SessionOptions(backend="wrong", threads=1)
IMAGES = [synthetic((48, 72)), synthetic((60, 50), 1)]


class WrongSession:
    """A session whose outputs are changed after each run."""

    def __init__(self, session: Session, spoil: Spoil):
        self.session, self.spoil = session, spoil
        self.inputs, self.outputs = session.inputs, session.outputs
        self.is_on_device = session.is_on_device

    def run(self, feeds: Mapping[str, Any]) -> Outputs:
        outputs = {name: value.copy() for name, value in self.session.run(feeds).items()}
        self.spoil(outputs)
        return outputs

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        return self.run(feeds)


@pytest.fixture
def wrong() -> Iterator[Callable[[str, Spoil], None]]:
    """A function that makes the backend `wrong` change the outputs of one graph."""

    def register(name: str, spoil: Spoil) -> None:
        def opener(graph: Graph, options: SessionOptions) -> Session:
            session = BACKENDS["cpu"](graph, options)
            return WrongSession(session, spoil) if graph.name == name else session

        BACKENDS.add("wrong", opener)

    yield register
    BACKENDS.remove("wrong")


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle, check_hashes=False)


def rows_of(bundle: Bundle, **more: Any) -> dict[tuple[str, str], Comparison]:
    found = verify(bundle, IMAGES, session=WRONG, **more)
    return {(row.what, row.fed): row for row in found.comparisons}


def faulty(rows: Mapping[tuple[str, str], Comparison]) -> set[tuple[str, str]]:
    return {key for key, row in rows.items() if row.faults}


def scale(output: str, factor: float) -> Spoil:
    """Multiply one output."""

    def spoil(outputs: Outputs) -> None:
        outputs[output] *= np.float32(factor)

    return spoil


def set_to(output: str, value: float) -> Spoil:
    """Fill one output with a number."""

    def spoil(outputs: Outputs) -> None:
        outputs[output][...] = value

    return spoil


def test_an_engine_is_as_good_as_itself(bundle: Bundle) -> None:
    steps: list[tuple[int, int]] = []
    found = verify(
        bundle, IMAGES, session=ONE_THREAD, progress=lambda done, total: steps.append((done, total))
    )
    assert found.is_within and not found.not_compared and found.images == 2
    fed = {row.what: row.fed for row in found.comparisons}
    assert fed.keys() == {*bundle.graphs, LABELS}
    # Graphs that others feed come twice, the second time fed by the engine
    assert [row.fed for row in found.comparisons if row.what == "encoder"] == ["reference"]
    assert {fed[name] for name in fed if name not in ("encoder", "cam")} == {"engine"}
    assert all(row.rms in (0, None) and row.largest in (0, None) for row in found.comparisons)
    assert {row.mean_iou for row in found.comparisons} == {1, None}
    assert steps[-1] == (len(steps) - 1, len(steps) - 1)
    assert {each.backend for each in found.runs_on.values()} == {"cpu"}


def test_a_difference_is_found_where_it_arises_and_in_what_is_left_of_it(
    bundle: Bundle, wrong: Callable[[str, Spoil], None]
) -> None:
    wrong("encoder", scale("image_embeddings", 1.01))
    rows = rows_of(bundle)
    encoder = rows["encoder", "reference"]
    assert encoder.rms == pytest.approx(0.01, rel=1e-3)
    assert encoder.faults == ("rms is 0.01, expected at most 0.001",)
    # The graphs after it are sound, but what they were given is not
    for name in bundle.graphs:
        if (name, "engine") in rows:
            assert not rows[name, "reference"].faults
            assert rows[name, "reference"].largest == 0 < (rows[name, "engine"].largest or 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite(
    bundle: Bundle, wrong: Callable[[str, Spoil], None], value: float
) -> None:
    wrong("encoder", set_to("image_embeddings", value))
    rows = rows_of(bundle)
    (fault,) = rows["encoder", "reference"].faults
    assert "gave image_embeddings with NaN, infinite or absurd values" in fault
    assert rows["decoder", "engine"].faults == ("a graph before it gave nothing",)
    assert "image_embeddings with NaN" in rows[LABELS, "engine"].faults[0]


def test_an_embedding_that_is_the_same_for_all_images(
    bundle: Bundle, wrong: Callable[[str, Spoil], None]
) -> None:
    """As fp16 encoders were seen to give; it is finite and of the right size."""
    kept: list[NDArray[Any]] = []

    def first(outputs: Outputs) -> None:
        kept.append(outputs["image_embeddings"])
        outputs["image_embeddings"][...] = kept[0]

    wrong("encoder", first)
    loose = {"rms": 10, "mean_iou": 0, "least_iou": 0, "score_shift": 10, "label_agreement": 0}
    rows = rows_of(bundle, tolerances=loose)
    assert rows["encoder", "reference"].faults == ("image_embeddings does not depend on the image",)


@pytest.mark.parametrize(
    ("graph", "spoil", "figure"),
    [
        ("decoder", scale("low_res_masks", -1), "mean IoU"),
        ("decoder", lambda outputs: outputs["low_res_masks"][3, 1].fill(9), "least IoU"),
        ("decoder", scale("iou_predictions", 1.5), "score shift"),
        ("cam", scale("cam", 1.1), "rms"),
    ],
)
def test_each_figure_is_judged(
    bundle: Bundle, wrong: Callable[[str, Spoil], None], graph: str, spoil: Spoil, figure: str
) -> None:
    wrong(graph, spoil)
    rows = rows_of(bundle)
    assert {name for name, _ in faulty(rows)} - {LABELS} == {graph}
    assert any(fault.startswith(f"{figure} is ") for fault in rows[graph, "reference"].faults)


def test_masks_of_eight_pixels_a_byte() -> None:
    """One mask is whole; of the other a quarter of its pixels is left."""
    expected = np.array([[[255, 255]], [[255, 255]]], np.uint8)
    actual = np.array([[[255, 255]], [[0b11000000, 0b11000000]]], np.uint8)
    pairs = {
        "mask_bits": [(actual, expected)],
        "boxes": [(np.array([[0, 0, 1, 0]]), np.array([[0, 0, 7, 0]]))],
    }
    row = _measured("finish", "reference", pairs, 0.0)
    assert (row.mean_iou, row.least_iou) == (0.625, 0.25)
    assert row.rms is None


def test_labels_are_compared_end_to_end(
    bundle: Bundle, wrong: Callable[[str, Spoil], None]
) -> None:
    """Maps that are swapped: only the labels' classes are wrong."""

    def swap(outputs: Outputs) -> None:
        for name in ("cam", "logits"):
            outputs[name][:, [0, 1]] = outputs[name][:, [1, 0]]

    wrong("cam", swap)
    row = rows_of(bundle)[LABELS, "engine"]
    assert row.label_agreement is not None and row.label_agreement < 0.97
    assert row.faults[0].startswith("label agreement is ")
    assert any(fault.startswith("image 1 has ") for fault in row.faults)


def test_an_engine_of_other_shapes(bundle: Bundle, wrong: Callable[[str, Spoil], None]) -> None:
    wrong("cam", lambda outputs: outputs.update(cam=outputs["cam"][..., :-1]))
    faults = rows_of(bundle)["cam", "reference"].faults
    assert set(faults) == {"cam is (1, 3, 80, 79), expected (1, 3, 80, 80)"}


def test_tolerances_are_those_of_the_precision_unless_given(bundle: Bundle) -> None:
    assert Tolerances.of("fp32") == Tolerances()
    bf16, fp16 = Tolerances.of("bf16"), Tolerances.of("fp16")
    assert bf16.mean_iou < fp16.mean_iou < Tolerances().mean_iou
    assert Tolerances.of("bf16", rms=0.5) == replace(bf16, rms=0.5)
    assert Tolerances.of("a precision to come") == Tolerances()
    with pytest.raises(SettingsError, match="mean_iou is 2, expected a number from 0 to 1"):
        Tolerances.of("fp32", mean_iou=2)
    int8 = replace(bundle, precision="int8")
    assert verify(int8, IMAGES[:1], session=ONE_THREAD).tolerances == Tolerances.of("int8")


def test_a_single_image_is_turned_upside_down(bundle: Bundle) -> None:
    found = verify(bundle, IMAGES[:1], session=ONE_THREAD)
    assert found.images == 2 and found.is_within


def test_parts_of_a_bundle(bundle: Bundle) -> None:
    cam = replace(bundle, sam=None, graphs={"cam": bundle.graph("cam")})
    (row,) = verify(cam, IMAGES, session=ONE_THREAD).comparisons
    assert row.what == "cam" and row.largest == 0
    graphs = {name: graph for name, graph in bundle.graphs.items() if name != "cam"}
    rows = verify(replace(bundle, cam=None, graphs=graphs), IMAGES, session=ONE_THREAD).comparisons
    assert {row.what for row in rows} == {*graphs}


def test_graphs_in_any_order_and_graphs_that_nothing_feeds(bundle: Bundle) -> None:
    graphs = dict(reversed(bundle.graphs.items()))
    label = replace(graphs["decoder"], name="label")
    (image, *_) = label.inputs
    label = replace(label, inputs=(image._replace(name="depth"), *label.inputs[1:]))
    found = verify(replace(bundle, graphs={"label": label, **graphs}), IMAGES, session=ONE_THREAD)
    assert {row.what for row in found.comparisons} == {*graphs, LABELS} and found.is_within
    assert found.not_compared == {"label": "no depth to feed it"}


def test_prompts_are_points_and_boxes_all_over_the_image(bundle: Bundle) -> None:
    feeds = sam_feeds(bundle, IMAGES[0])
    points, prompts = feeds["point_coords", 2], feeds["point_coords", 3]
    kinds = feeds["point_labels", 2]
    assert len(points) == len(prompts) == len(kinds) == 16
    assert {tuple(each) for each in kinds.tolist()} == {(1, -1), (2, 3)}
    corners = prompts[kinds[:, 0] == 2]
    assert (corners[:, 1] >= corners[:, 0]).all()
    side = bundle.require_sam().input_side
    assert points.min() < side / 6 and points.max() > side * 5 / 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": []}, SettingsError, r"images is \[\], expected a list"),
        ({"session": {"backend": "tpu"}}, SettingsError, "backend is 'tpu'"),
        ({"tolerances": {"rmse": 1}}, SettingsError, "unknown setting 'rmse'"),
        ({"tolerances": {"rms": -1}}, SettingsError, "rms is -1, expected"),
        ({"reference": {"backend": "cuda"}}, BackendError, "CUDAExecutionProvider"),
    ],
)
def test_wrong_arguments(
    bundle: Bundle, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"images": IMAGES, "session": ONE_THREAD, **arguments}
    with pytest.raises(error, match=message):
        verify(bundle, given.pop("images"), **given)


def test_json(bundle: Bundle, wrong: Callable[[str, Spoil], None]) -> None:
    wrong("encoder", set_to("image_embeddings", 0))
    found = verify(bundle, IMAGES, session=WRONG, tolerances={"rms": 0.5})
    row = next(row for row in found.comparisons if row.what == "encoder")
    assert row.rms == 1 and not math.isnan(row.rms)
    parsed = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert parsed["is_within"] is False and parsed["precision"] == "fp32"
    assert parsed["tolerances"]["rms"] == 0.5
    assert parsed["backends"]["encoder"] == "wrong"
    assert parsed["comparisons"][0]["what"] == row.what
