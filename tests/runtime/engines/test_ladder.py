"""The precisions that are tried, and what is noticed of a bad one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.engines.ladder import Comparison, compare, rungs, variants
from samrefine_runtime.engines.samples import Samples, drawn_scene
from samrefine_runtime.errors import BackendError, SettingsError
from tests.samples import ONE_THREAD

NAMES = ("encoder", "decoder", "everything_image", "cam")
"""Graphs of every version of the format."""


@pytest.fixture(scope="module")
def bundle(small_bundle: Path) -> Bundle:
    return Bundle.load(small_bundle, check_hashes=False)


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> Samples:
    graphs = [bundle.graph(name) for name in NAMES]
    return Samples(bundle, graphs, [drawn_scene(0), drawn_scene(1)], prompts=4)


class Spoiled:
    """An engine that gives other outputs than its graph."""

    def __init__(self, session: Any, spoil: Callable[[dict[str, np.ndarray]], object]):
        self.session, self.spoil = session, spoil

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = {name: value.copy() for name, value in self.session.run(feeds).items()}
        self.spoil(outputs)
        return outputs


def compared(
    bundle: Bundle, samples: Samples, name: str, spoil: Callable[[Any], object]
) -> Comparison:
    graph = bundle.graph(name)
    threshold = bundle.require_sam().mask_threshold
    return compare(graph, Spoiled(open_cpu(graph, ONE_THREAD), spoil), samples, threshold)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_itself_passes(bundle: Bundle, samples: Samples, name: str) -> None:
    found = compared(bundle, samples, name, lambda outputs: None)
    assert found.reason == ""
    assert found.figures["rms"] < 1e-5
    # Masks depend on the encoder through the decoder
    assert ("least_iou" in found.figures) == (name in ("encoder", "decoder"))


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("encoder", lambda o: o["image_embeddings"].fill(np.nan), "embeddings is not finite"),
        ("cam", lambda o: o["logits"].fill(np.inf), "logits is not finite"),
        ("encoder", lambda o: o["image_embeddings"].fill(0.5), "is the same for every input"),
        ("cam", lambda o: o["cam"].__imul__(1.1), "rms 0.1, expected at most 0.02"),
        ("encoder", lambda o: o["image_embeddings"].__imul__(-1), "rms 2, .*least_iou 0"),
        ("decoder", lambda o: o["low_res_masks"].__imul__(-1), "mean_iou 0, expected at least"),
        (
            "decoder",
            lambda o: o["iou_predictions"][0].__iadd__(0.02),
            "score_shift 0.02, expected at most 0.01",
        ),
    ],
)
def test_what_is_wrong_is_noticed(
    bundle: Bundle, samples: Samples, name: str, spoil: Callable[[Any], object], reason: str
) -> None:
    assert re.search(reason, compared(bundle, samples, name, spoil).reason)


def test_rounding_to_fp16_passes(bundle: Bundle, samples: Samples) -> None:
    def spoil(outputs: dict[str, np.ndarray]) -> None:
        for name, value in outputs.items():
            outputs[name] = value.astype(np.float16).astype(np.float32)

    for name in NAMES:
        assert compared(bundle, samples, name, spoil).reason == ""


def test_graphs_are_run_in_the_order_of_their_tensors(bundle: Bundle) -> None:
    graphs = [bundle.graph(name) for name in reversed(NAMES)]
    order = [each.name for each in Samples(bundle, graphs, [drawn_scene(0)], prompts=4).order]
    assert order.index("encoder") < min(order.index("decoder"), order.index("everything_image"))


def test_an_unknown_input_is_an_error(bundle: Bundle) -> None:
    cam = bundle.graph("cam")
    graph = replace(cam, inputs=(cam.inputs[0]._replace(name="picture"),))
    with pytest.raises(BackendError, match=r"graph 'cam' takes picture .* no sample can be made"):
        Samples(bundle, [graph], [drawn_scene(0)], prompts=4)


def test_drawn_scenes_differ() -> None:
    assert drawn_scene(0).shape == (480, 480, 3) and drawn_scene(0).std() > 20
    assert not np.array_equal(drawn_scene(0), drawn_scene(1))
    assert np.array_equal(drawn_scene(1), drawn_scene(1))


def test_a_gpu_without_the_precision_of_a_graph(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match=r"\(SM 7\.2\) has no precision of graph 'encoder'"):
        rungs(variants(replace(bundle, precision="bf16")), "auto", (7, 2))


def with_precisions(bundle: Bundle, **precisions: str) -> Bundle:
    """The bundle with some graphs in other precisions beside."""
    known = dict.fromkeys(each for several in precisions.values() for each in several.split())
    graphs = {}
    for name in NAMES:
        graph = bundle.graph(name)
        written = precisions.get(name, "").split()
        variants = {p: replace(graph, name=f"{name}.{p}") if p in written else graph for p in known}
        graphs[name] = replace(graph, variants=variants)
    return replace(bundle, graphs=graphs)


@pytest.mark.parametrize(
    ("precision", "capability", "encoder", "cam"),
    [
        ("auto", (8, 7), ["fp16", "bf16", "tf32", "fp32"], ["tf32", "fp32"]),
        ("auto", (7, 2), ["fp16", "fp32"], ["fp32"]),
        ("tf32", (8, 7), ["tf32"], ["tf32"]),
        ("fp16", (8, 7), ["fp16"], ["fp32"]),
        ("fp32", (8, 7), ["fp32"], ["fp32"]),
    ],
)
def test_precisions_that_are_tried(
    bundle: Bundle, precision: str, capability: tuple[int, int], encoder: list[str], cam: list[str]
) -> None:
    several = with_precisions(bundle, encoder="bf16 fp16")
    found = rungs(variants(several), precision, capability)
    assert set(found) == set(NAMES)
    assert list(found["encoder"]) == encoder and list(found["cam"]) == cam


@pytest.mark.parametrize(
    ("precision", "capability", "known"),
    [("fp16", (8, 7), "tf32, fp32"), ("tf32", (7, 2), "fp32"), ("bf16", (7, 2), "fp32")],
)
def test_a_precision_that_is_not_there(
    bundle: Bundle, precision: str, capability: tuple[int, int], known: str
) -> None:
    message = f"precision is '{precision}', this GPU and the bundle have {known}: export the bundle"
    with pytest.raises(SettingsError, match=message):
        rungs(variants(bundle), precision, capability)
