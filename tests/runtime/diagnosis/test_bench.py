"""What `bench` counts and measures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samrefine_runtime.backends import BACKENDS, Session, SessionOptions
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.diagnosis.bench import Benchmark, Stage, bench, everything_gmacs
from samrefine_runtime.errors import BackendError, BundleError, SettingsError
from tests.samples import ONE_THREAD, synthetic

IMAGE = synthetic((48, 72))


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle, check_hashes=False)


def stages_of(found: Benchmark) -> dict[str, Stage]:
    return {stage.name: stage for stage in found.stages}


def test_every_graph_is_timed_inside_whole_images(bundle: Bundle) -> None:
    steps: list[tuple[int, int]] = []
    found = bench(
        bundle,
        [IMAGE, synthetic((40, 40), 1)],
        session=ONE_THREAD,
        repeats=3,
        points_per_side=4,
        progress=lambda done, total: steps.append((done, total)),
    )
    stages = stages_of(found)
    assert found.what == "label" and found.prompts == 16
    # The run before, which is slower, does not count
    assert stages["image"].runs == stages["encoder"].runs == 3
    assert stages["cam"].runs == 3 * 4  # scales
    assert all(0 < stage.p50 <= stage.p90 for stage in found.stages)
    assert stages["encoder"].p50 < stages["image"].p50
    assert found.images_per_second == pytest.approx(1 / stages["image"].p50, rel=0.9)
    assert found.peak_memory_mb > 20
    assert set(found.runs_on) == set(stages) - {"image"}
    assert steps[0] == (0, 3) and steps[-1] == (3, 3)
    assert "timed" not in BACKENDS


def test_without_a_classifier_all_masks_are_found(bundle: Bundle) -> None:
    graphs = {name: graph for name, graph in bundle.graphs.items() if name != "cam"}
    sam = replace(bundle, cam=None, graphs=graphs)
    found = bench(sam, [IMAGE], session=ONE_THREAD, repeats=1, points_per_side=2)
    assert found.what == "masks" and "cam" not in stages_of(found)
    with pytest.raises(BundleError, match="holds no SAM"):
        bench(replace(bundle, sam=None, cam=None), [IMAGE], session=ONE_THREAD)


def test_durations_are_those_of_the_graph(
    bundle: Bundle, slow_encoder: Callable[[float], SessionOptions]
) -> None:
    session = slow_encoder(0.2)
    found = bench(bundle, [IMAGE], session=session, repeats=1, points_per_side=1)
    stages = stages_of(found)
    assert 0.2 < stages["encoder"].p50 < stages["image"].p50
    assert found.runs_on["encoder"].backend == "slow"


@pytest.fixture
def slow_encoder() -> Any:
    def register(seconds: float) -> SessionOptions:
        def opener(graph: Graph, options: SessionOptions) -> Session:
            session: Any = open_cpu(graph, options)
            if graph.name == "encoder":
                run = session.run

                def late(feeds: Any) -> Any:
                    time.sleep(seconds)
                    return run(feeds)

                session.run = late
            return session  # type: ignore[no-any-return]

        BACKENDS.add("slow", opener)
        return SessionOptions(backend="slow", threads=1)

    yield register
    BACKENDS.remove("slow")


def test_nothing_that_runs_ends_in_its_reasons(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="onnxruntime is not installed") as caught:
        bench(bundle, [IMAGE])
    assert str(caught.value).isprintable()
    assert "timed" not in BACKENDS


def test_arithmetic_of_published_models(bundle: Bundle) -> None:
    """371 GMAC is an encoder without its global attention; with it ViT-B has 486."""
    assert everything_gmacs(bundle, 1024) is None
    manifest = {**bundle.manifest, "sam": {**bundle.manifest["sam"], "arch": "vit_b"}}
    gmacs = everything_gmacs(replace(bundle, manifest=manifest), 1024)
    assert gmacs == pytest.approx(486 + 1024 * (0.20 + 0.2 * 0.26))


def test_one_line_and_json() -> None:
    found = Benchmark(
        bundle="vit_b",
        what="masks",
        stages=[Stage.of("encoder", [0.5, 0.5]), Stage.of("image", [2.0, 2.0])],
        images_per_second=0.5,
        peak_memory_mb=1000,
        prompts=1024,
        gmacs=700.0,
        gauges={"gpu_power_watts": 30.0},
    )
    assert found.gflops == 700
    assert found.line() == (
        "vit_b, masks, 1024 prompts, ; encoder 500.0 ms; image 2000.0 ms; 0.5 images/s; "
        "peak 1000 MB; gpu_power_watts 30; 700 GFLOP/s"
    )
    parsed = json.loads(json.dumps(found.to_json()))
    assert parsed["stages"][0] == {"name": "encoder", "runs": 2, "p50": 0.5, "p90": 0.5}
    assert parsed["line"] == found.line() and parsed["gflops"] == 700


@pytest.mark.parametrize(
    "arguments", [{"repeats": 0}, {"repeats": "3"}, {"images": []}, {"points_per_side": 0}]
)
def test_wrong_arguments(bundle: Bundle, arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"images": [IMAGE], "session": ONE_THREAD, **arguments}
    with pytest.raises(SettingsError):
        bench(bundle, given.pop("images"), **given)
