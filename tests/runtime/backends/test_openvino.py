"""OpenVINO: what it gives is what ONNX Runtime gives, and what cannot run says why."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.openvino import _check_precision, open_openvino
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.compare import difference
from samrefine_runtime.errors import BackendError, BackendUnavailableError, InferenceError
from samrefine_runtime.pipeline import Labeler
from samrefine_runtime.refine import RefineSettings
from tests.samples import ONE_THREAD, synthetic

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

FP32 = SessionOptions(backend="openvino", threads=1)
BF16 = replace(FP32, precision="bf16")

needs_bf16 = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no bf16",
)


@pytest.fixture(scope="module")
def bundle(lively_bundle: Path) -> Bundle:
    return Bundle.load(lively_bundle, check_hashes=False)


def cam_of(bundle: Bundle, options: SessionOptions) -> NDArray[np.float32]:
    image = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
    return backends.open(bundle.graph("cam"), options).run({"image": image})["cam"]


def test_labels_are_those_of_onnx_runtime(bundle: Bundle) -> None:
    image, present = synthetic((48, 72)), np.array([True, False, True])
    ours, expected = (
        Labeler(bundle, refinement=RefineSettings(), session=session).label(image, present)
        for session in (FP32, ONE_THREAD)
    )
    assert len(ours.masks) == len(expected.masks) > 10
    assert np.array_equal(ours.label, expected.label)


def test_the_precision_is_fp32_unless_asked_for(bundle: Bundle) -> None:
    """OpenVINO's own default is bf16 where the CPU has it, a thousand times less exact."""
    assert difference(cam_of(bundle, FP32), cam_of(bundle, ONE_THREAD)).rms < 1e-6


@needs_bf16
def test_bf16_is_rounded_and_close(bundle: Bundle) -> None:
    rms = difference(cam_of(bundle, BF16), cam_of(bundle, ONE_THREAD)).rms
    assert 1e-4 < rms < 0.03


@needs_bf16
def test_auto_takes_openvino_for_bf16_alone(bundle: Bundle) -> None:
    graph = bundle.graph("cam")
    assert backends.open(graph, ONE_THREAD).runs_on.backend == "cpu"
    found = backends.open(graph, replace(ONE_THREAD, precision="bf16")).runs_on
    assert found.backend == "openvino"
    assert "ONNX Runtime has no bf16 on CPUs" in found.passed_over["cpu"]


def test_a_cpu_without_bf16_is_not_made_to_emulate_it() -> None:
    core = SimpleNamespace(get_property=lambda device, name: ["FP32", "INT8"])
    _check_precision("fp32", core)
    message = r"^this CPU has no bf16 \(OpenVINO finds FP32, INT8\)$"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        _check_precision("bf16", core)
    assert not caught.value.is_broken


def test_without_openvino(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'samrefine-rt\[openvino\]'"):
        open_openvino(bundle.graph("cam"), FP32)


def image_and_tokens(bundle: Bundle) -> tuple[backends.Session, backends.Session]:
    image, tokens = (
        open_openvino(bundle.graph(name), FP32)
        for name in ("everything_image", "everything_tokens")
    )
    return image, tokens


POINTS = {"point_coords": np.array([[20, 30], [200, 100]], np.float32)}


def without_upscaling(shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tokens' graph takes of what is shared."""
    return {name: value for name, value in shared.items() if name != "upscaling"}


def embedding_of(bundle: Bundle, seed: int) -> Mapping[str, Any]:
    shape = (1, *bundle.require_sam().embedding)
    values = np.random.default_rng(seed).normal(size=shape)
    return {"image_embeddings": values.astype(np.float32)}


def test_outputs_on_the_device_can_be_fed(bundle: Bundle) -> None:
    image, tokens = image_and_tokens(bundle)
    shared = without_upscaling(image.run(embedding_of(bundle, 0)))
    copied = tokens.run({**POINTS, **shared})
    shared = without_upscaling(image.run_on_device(embedding_of(bundle, 0)))
    kept = tokens.run({**POINTS, **shared})
    assert copied.keys() == kept.keys()
    assert all(np.array_equal(copied[name], kept[name]) for name in copied)


def test_outputs_outlive_the_runs_after_them_and_the_session(bundle: Bundle) -> None:
    image, tokens = image_and_tokens(bundle)
    first = without_upscaling(image.run_on_device(embedding_of(bundle, 0)))
    weights = tokens.run({**POINTS, **first})["weights"]
    before = weights.copy()
    second = without_upscaling(image.run_on_device(embedding_of(bundle, 1)))
    other = tokens.run({**POINTS, **second})["weights"]
    again = tokens.run({**POINTS, **first})["weights"]
    del image, tokens
    assert np.array_equal(weights, before) and np.array_equal(again, before)
    assert not np.array_equal(other, before)


def test_memory_given_back_does_not_change_the_result(bundle: Bundle) -> None:
    graph = bundle.graph("everything_image")
    freeing, keeping = (
        open_openvino(graph, replace(FP32, frees_memory=frees)) for frees in (True, False)
    )
    for seed in (0, 1):
        feeds = embedding_of(bundle, seed)
        ours, expected = freeing.run(feeds), keeping.run(feeds)
        assert all(np.array_equal(ours[name], expected[name]) for name in expected)


def test_graphs_are_compiled_anew_unless_a_folder_is_given(tmp_path: Path, bundle: Bundle) -> None:
    folder = tmp_path / "compiled"
    cached = replace(FP32, cache=str(folder))
    first = cam_of(bundle, cached)
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert files
    assert np.array_equal(cam_of(bundle, cached), first)
    assert files == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_graph(tmp_path: Path, bundle: Bundle, content: bytes | None) -> None:
    path, graph = tmp_path / "damaged.onnx", bundle.graph("cam")
    path.write_bytes(graph.path.read_bytes()[:200] if content is None else content)
    with pytest.raises(BackendError, match=r"OpenVINO cannot load .*damaged\.onnx") as caught:
        open_openvino(replace(graph, path=path), FP32)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "was fed nothing, expected image float32"),
        ({"picture": np.zeros((1, 3, 8, 8), np.float32)}, "was fed nothing, expected image"),
        ({"image": np.zeros((1, 4, 8, 8), np.float32)}, "the model input"),
        ({"image": np.zeros((1, 3, 8, 8), np.float64)}, "was fed float64, expected image"),
        ({"image": np.zeros((3, 8, 8), np.float32)}, "the model input"),
        (
            {name: np.zeros((1, 3, 8, 8), np.float32) for name in ("image", "picture")},
            "picture was not found",
        ),
    ],
)
def test_inputs_that_do_not_fit(
    bundle: Bundle, feeds: dict[str, NDArray[Any]], message: str
) -> None:
    session = open_openvino(bundle.graph("cam"), FP32)
    with pytest.raises(InferenceError, match=f"^OpenVINO failed: .*{message}") as caught:
        session.run(feeds)
    assert str(caught.value).isprintable()


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.openvino import open_openvino
from samrefine_runtime.bundle import Bundle

session = open_openvino(Bundle.load(sys.argv[1]).graph("cam"), SessionOptions(threads=1))
image = np.zeros((8, 3, 1024, 1024), np.float32)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
now = 1024 * int(status["VmSize"].split()[0])
resource.setrlimit(resource.RLIMIT_AS, (now, now))
try:
    session.run({"image": image})
except MemoryError as error:
    print("MemoryError", error)
"""


def test_out_of_memory_is_a_memory_error(small_bundle: Path) -> None:
    """In a process that may allocate no more: OpenVINO's own `infer` gives empty outputs there."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(small_bundle)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout.startswith("MemoryError ") and "allocate" in done.stdout, done.stderr


def test_inputs_and_outputs_are_described(bundle: Bundle) -> None:
    for graph in bundle.graphs.values():
        session = open_openvino(graph, FP32)
        assert described(session.inputs) == described(graph.inputs)
        assert described(session.outputs) == described(graph.outputs)


def described(tensors: Any) -> list[tuple[str, str, tuple[object, ...]]]:
    """Tensors whose axes of any length have no name."""
    return sorted(
        (t.name, t.dtype, tuple("?" if isinstance(side, str) else side for side in t.shape))
        for t in tensors
    )


def test_a_graph_of_another_bundle_is_refused(bundle: Bundle) -> None:
    graph: Graph = bundle.graph("cam")
    other = replace(graph, path=bundle.graph("encoder").path)
    with pytest.raises(BackendError, match=r"takes image float32 .*, its manifest says image"):
        backends.open(other, FP32)
