"""What engines find in a file is what the manifest says, and so is what graphs give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.bundle import Bundle, Graph, TensorSpec
from samrefine_runtime.cam import CamClassifier
from samrefine_runtime.errors import BackendError, InferenceError
from samrefine_runtime.sam.encoder import ImageEncoder
from samrefine_runtime.sam.generator import MaskGenerator
from samrefine_runtime.sam.predictor import Predictor
from tests.samples import ONE_THREAD, synthetic

IMAGE = synthetic((48, 72))
Outputs = dict[str, NDArray[Any]]
Spoil = Callable[[Outputs], object]
"""Changes the outputs of a graph in place."""

SPOILED = SessionOptions(backend="spoiled", threads=1)


class SpoiledSession:
    """A session whose outputs are spoiled after each run."""

    def __init__(self, session: Session, spoil: Spoil):
        self.session, self.spoil = session, spoil
        self.is_on_device = session.is_on_device
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, feeds: Mapping[str, Any]) -> Outputs:
        outputs = {name: value.copy() for name, value in self.session.run(feeds).items()}
        self.spoil(outputs)
        return outputs

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        outputs = self.session.run_on_device(feeds, fetch)
        fetched = {name: outputs[name].copy() for name in fetch}
        if fetched:
            self.spoil(fetched)
        return {**outputs, **fetched}


@pytest.fixture
def spoiling() -> Iterator[Callable[[str, Spoil], None]]:
    """A function that makes the backend `spoiled` change the outputs of one graph."""

    def register(name: str, spoil: Spoil) -> None:
        def opener(graph: Graph, options: SessionOptions) -> Session:
            session = BACKENDS["cpu"](graph, options)
            return SpoiledSession(session, spoil) if graph.name == name else session

        BACKENDS.add("spoiled", opener)

    yield register
    BACKENDS.remove("spoiled")


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle)


def set_value(output: str, value: float, index: int = -1) -> Spoil:
    """Set one number of an output."""

    def spoil(outputs: Outputs) -> None:
        outputs[output].reshape(-1)[index] = value

    return spoil


def keep(output: str, part: Any) -> Spoil:
    """Keep a part of an output."""
    return lambda outputs: outputs.update({output: outputs[output][part]})


def encode(bundle: Bundle) -> object:
    return ImageEncoder(bundle, session=SPOILED).embed(IMAGE)


def predict(bundle: Bundle) -> object:
    predictor = Predictor(bundle, session=SPOILED)
    predictor.set_image(IMAGE)
    return predictor.predict(point_coords=[[20, 10]], point_labels=[1])


def generate(bundle: Bundle) -> object:
    return MaskGenerator(bundle, session=SPOILED).generate(IMAGE)


def classify(bundle: Bundle) -> object:
    return CamClassifier(bundle, session=SPOILED).run(IMAGE)


RUNS: tuple[tuple[str, Callable[[Bundle], object], str], ...] = (
    ("encoder", encode, "image_embeddings"),
    ("decoder", predict, "low_res_masks"),
    ("decoder", predict, "iou_predictions"),
    ("everything_tokens", generate, "iou_predictions"),
    ("everything_masks", generate, "low_res_masks"),
    ("cam", classify, "cam"),
    ("cam", classify, "logits"),
)


@pytest.mark.parametrize(("graph", "run", "output"), RUNS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("index", [0, -1])
def test_numbers_that_are_none(
    bundle: Bundle,
    spoiling: Callable[[str, Spoil], None],
    graph: str,
    run: Callable[[Bundle], object],
    output: str,
    value: float,
    index: int,
) -> None:
    spoiling(graph, set_value(output, value, index))
    message = f"^graph '{graph}' gave {output} with NaN, infinite or absurd values: its weights"
    with pytest.raises(InferenceError, match=message) as caught:
        run(bundle)
    assert caught.value.exit_code == 1 and isinstance(caught.value, BackendError)


@pytest.mark.parametrize(("graph", "run", "output"), RUNS)
def test_sound_numbers(
    bundle: Bundle,
    spoiling: Callable[[str, Spoil], None],
    graph: str,
    run: Callable[[Bundle], object],
    output: str,
) -> None:
    spoiling(graph, lambda outputs: None)
    assert run(bundle)


@pytest.mark.parametrize(
    ("graph", "run", "spoil", "message"),
    [
        ("encoder", encode, keep("image_embeddings", 0), r"gave image_embeddings float32 \(32, 16"),
        ("encoder", encode, keep("image_embeddings", np.s_[:, :8]), r"\(1, 8, 16, 16\), its manif"),
        ("decoder", predict, keep("low_res_masks", np.s_[:, 1:]), r"\(1, 3, 64, 64\), its manifes"),
        (
            "decoder",
            predict,
            keep("low_res_masks", np.s_[:0]),
            "masks of 0 prompts and scores of 1",
        ),
        ("decoder", predict, keep("iou_predictions", [0, 0]), "masks of 1 prompts and scores of 2"),
        ("everything_tokens", generate, keep("iou_predictions", np.s_[1:]), "scores of 3 points"),
        ("everything_tokens", generate, keep("iou_predictions", np.s_[:, 1:]), r"float32 \(4, 2\)"),
        ("everything_masks", generate, keep("low_res_masks", np.s_[1:]), r"gave \d+ masks, expect"),
        ("everything_masks", generate, keep("low_res_masks", np.s_[:, 1:]), r"\(\d+, 63, 64\), it"),
        ("cam", classify, keep("cam", np.s_[:, :2]), r"gave cam float32 \(2, 2, 12, 18\), its man"),
        (
            "cam",
            classify,
            keep("cam", np.s_[:, 0]),
            r"gave cam float32 \(2, 12, 18\), its manifest",
        ),
        (
            "cam",
            classify,
            keep("cam", np.s_[:1]),
            r"maps \(1, 3, 12, 18\) and logits \(2, 3\) for 2",
        ),
        ("cam", classify, keep("cam", np.s_[..., :0]), r"maps \(2, 3, 12, 0\) and logits \(2, 3\)"),
        ("cam", classify, keep("logits", np.s_[:1]), r"and logits \(1, 3\) for 2 views, expected"),
        ("cam", classify, lambda o: o.update(cam=o["cam"].astype(np.float64)), r"gave cam float64"),
    ],
)
def test_outputs_that_do_not_fit(
    bundle: Bundle,
    spoiling: Callable[[str, Spoil], None],
    graph: str,
    run: Callable[[Bundle], object],
    spoil: Spoil,
    message: str,
) -> None:
    spoiling(graph, spoil)
    with pytest.raises(
        InferenceError, match=f"^graph '{graph}' gave .*{message.removeprefix('gave ')}"
    ):
        run(bundle)


IMAGE_INPUT = TensorSpec("image", "float32", ("batch", 3, "height", "width"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ()}, r"graph 'cam' takes image float32 .*, its manifest says no image$"),
        ({"inputs": (IMAGE_INPUT._replace(name="picture"),)}, "image float32 .* says no image$"),
        ({"inputs": (IMAGE_INPUT._replace(dtype="uint8"),)}, "its manifest says image uint8"),
        ({"inputs": (IMAGE_INPUT._replace(shape=("b", 4, "h", "w")),)}, r"image float32 \(b, 4"),
        ({"inputs": (IMAGE_INPUT._replace(shape=("b", 3, 64, 64)),)}, r"\(b, 3, 64, 64\)"),
        (
            {"inputs": (IMAGE_INPUT, IMAGE_INPUT._replace(name="s\u202ecale"))},
            r"takes no s\\u202ecale, its manifest says s\\u202ecale float32",
        ),
        (
            {"outputs": (IMAGE_INPUT._replace(name="cam"),)},
            r"gives logits float32 .* says no logits",
        ),
    ],
)
def test_a_manifest_that_describes_another_graph(
    bundle: Bundle, changes: dict[str, Any], message: str
) -> None:
    graph = replace(bundle.graph("cam"), **changes)
    with pytest.raises(BackendError, match=message) as caught:
        backends.open(graph, ONE_THREAD)
    assert str(caught.value).isprintable() and caught.value.exit_code == 2


def test_a_graph_whose_inputs_have_one_length_only(bundle: Bundle) -> None:
    """The manifest says that any length will do."""
    encoder = bundle.graph("encoder")
    (image,) = encoder.inputs
    graph = replace(encoder, inputs=(image._replace(shape=("b", 3, "h", "w")),))
    with pytest.raises(BackendError, match=r"takes image float32 \(1, 3, 256, 256\), its manif"):
        backends.open(graph, ONE_THREAD)


def test_the_names_of_axes_are_free(bundle: Bundle) -> None:
    graph = bundle.graph("cam")
    renamed = tuple(
        tensor._replace(shape=tuple(f"axis {s}" if isinstance(s, str) else s for s in tensor.shape))
        for tensor in graph.inputs
    )
    assert backends.open(replace(graph, inputs=renamed), ONE_THREAD)


def test_every_graph_is_what_its_manifest_says(small_bundle: Path) -> None:
    for folder in (small_bundle, "demo"):
        for graph in Bundle.load(folder).graphs.values():
            session = backends.open(graph, ONE_THREAD)
            assert {t.name: t.dtype for t in session.inputs} == {
                t.name: t.dtype for t in graph.inputs
            }
