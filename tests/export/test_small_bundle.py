"""The committed test data is what its generators make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.bundle import Bundle, Graph
from tests.colour_graphs import graph_path, write_colour_graph
from tests.samples import DATA, ONE_THREAD
from tests.small_bundle import export_small_bundle

AXES = {"prompts": 3, "points": 2, "batch": 2, "height": 20, "width": 24}
"""Lengths of the dynamic axes."""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("fresh") / "small"
    export_small_bundle(folder)
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def committed(small_bundle: Path) -> Bundle:
    return Bundle.load(small_bundle)


def random_feeds(graph: Graph) -> dict[str, NDArray[np.float32]]:
    """Values of 0 to 1 for every input; coordinates in pixels of the encoder's input, logits of
    both signs, indices that differ."""
    rng = np.random.default_rng(0)
    feeds = {}
    for value in graph.inputs:
        shape = [AXES.get(side, 3) if isinstance(side, str) else side for side in value.shape]
        feeds[value.name] = rng.random(shape).astype(value.dtype)
    if "point_coords" in feeds:
        feeds["point_coords"] *= 256
    if "point_labels" in feeds:
        feeds["point_labels"] = feeds["point_labels"].round()
    if "low_res_masks" in feeds:
        feeds["low_res_masks"] -= 0.5
    for name in feeds.keys() & {"prompt", "mask"}:
        feeds[name] = np.arange(len(feeds[name]))
    return feeds


def test_manifests_agree(fresh: Bundle, committed: Bundle) -> None:
    for section in ("name", "format_version", "precision", "sam", "cam", "defaults"):
        assert fresh.manifest[section] == committed.manifest[section]
    assert list(fresh.graphs) == list(committed.graphs)
    for name, graph in fresh.graphs.items():
        assert graph.inputs == committed.graphs[name].inputs
        assert graph.outputs == committed.graphs[name].outputs


EVERYTHING = tuple(f"everything_{part}" for part in ("image", "tokens", "masks", "finish"))


@pytest.mark.parametrize("name", ["encoder", "decoder", *EVERYTHING, "cam"])
def test_graphs_compute_the_same(name: str, fresh: Bundle, committed: Bundle) -> None:
    feeds = random_feeds(fresh.graph(name))
    expected = backends.open(fresh.graph(name), ONE_THREAD).run(feeds)
    actual = backends.open(committed.graph(name), ONE_THREAD).run(feeds)
    assert actual.keys() == expected.keys()
    for output, value in expected.items():
        assert value.size > 0
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(actual[output], value, rtol=0, atol=1e-4 * scale)


def test_every_graph_is_compared(committed: Bundle) -> None:
    assert len(committed.graphs) == 7


@pytest.mark.parametrize("background", [False, True])
def test_colour_graphs(background: bool, tmp_path: Path) -> None:
    path = graph_path(tmp_path, background=background)
    write_colour_graph(path, background=background)
    assert path.read_bytes() == graph_path(DATA, background=background).read_bytes()
