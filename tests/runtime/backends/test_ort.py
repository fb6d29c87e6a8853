"""Sessions: what cannot run says why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samrefine_runtime.backends.ort import OrtSession
from samrefine_runtime.bundle import Bundle
from samrefine_runtime.errors import BackendError


@pytest.fixture
def graph(small_bundle: Path) -> Path:
    return Bundle.load(small_bundle, check_hashes=False).graph("cam").path


def test_outputs_by_name(graph: Path) -> None:
    image = np.zeros((2, 3, 8, 12), np.float32)
    outputs = OrtSession(graph, threads=1).run({"image": image})
    assert {name: value.shape for name, value in outputs.items()} == {
        "cam": (2, 3, 2, 3),
        "logits": (2, 3),
    }


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_do_not_change_the_result(graph: Path, threads: int | None) -> None:
    image = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
    expected = OrtSession(graph, backend="cpu", threads=1).run({"image": image})
    actual = OrtSession(graph, backend="cpu", threads=threads).run({"image": image})
    np.testing.assert_allclose(actual["cam"], expected["cam"], atol=1e-6)


def test_the_slow_fusion_is_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Path
) -> None:
    """ONNX Runtime ignores names of optimizers it does not know, so look at what it makes."""
    import onnxruntime

    load, path = onnxruntime.InferenceSession, tmp_path / "optimised.onnx"

    def load_and_keep(graph: str, options: Any, **arguments: Any) -> Any:
        options.optimized_model_filepath = str(path)
        return load(graph, options, **arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", load_and_keep)
    graph = Bundle.load(small_bundle, check_hashes=False).graph("decoder").path
    load_and_keep(str(graph), onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
    assert b"SkipLayerNormalization" in path.read_bytes()
    OrtSession(graph, backend="cpu", threads=1)
    assert b"SkipLayerNormalization" not in path.read_bytes()


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch, graph: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'samrefine-rt\[cpu\]' for CPUs or"):
        OrtSession(graph)


def test_unknown_backend(graph: Path) -> None:
    with pytest.raises(BackendError, match=r"^backend is 'tpu', expected one of auto, cpu, cuda"):
        OrtSession(graph, backend="tpu")  # type: ignore[arg-type]


def test_cuda_where_onnxruntime_has_none(monkeypatch: pytest.MonkeyPatch, graph: Path) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"has no CUDAExecutionProvider .*samrefine-rt\[gpu\]"):
        OrtSession(graph, backend="cuda")
    assert OrtSession(graph, backend="auto", threads=1)


def test_cuda_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An onnxruntime built for CUDA goes on with the CPU where CUDA's libraries are missing."""
    import onnxruntime

    load, offered = onnxruntime.InferenceSession, ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def fall_back(*arguments: Any, providers: list[str], **options: Any) -> Any:
        return load(*arguments, providers=providers[-1:], **options)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(BackendError, match="offers CUDAExecutionProvider but could not start it"):
        OrtSession(graph, backend="cuda")
    assert not caplog.records
    OrtSession(graph, backend="auto", threads=1)
    assert caplog.records[0].message.endswith("missing: running on the CPU")


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_graph(tmp_path: Path, graph: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(graph.read_bytes()[:200] if content is None else content)
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load .*damaged\.onnx"):
        OrtSession(path)


def test_missing_graph(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot load"):
        OrtSession(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"picture": np.zeros((1, 3, 8, 8), np.float32)},
        {"image": np.zeros((1, 4, 8, 8), np.float32)},
        {"image": np.zeros((1, 3, 8, 8), np.float64)},
        {"image": np.zeros((3, 8, 8), np.float32)},
    ],
)
def test_inputs_that_do_not_fit(graph: Path, feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        OrtSession(graph, threads=1).run(feeds)


def test_out_of_memory_is_a_memory_error(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime says when an arena cannot grow."""
    session = OrtSession(graph, threads=1)

    class Full:
        def run(self, *args: object) -> None:
            raise RuntimeError("Non-zero status code: Failed to allocate memory for requested")

    monkeypatch.setattr(session, "_session", Full())
    with pytest.raises(MemoryError, match="Failed to allocate"):
        session.run({"image": np.zeros((1, 3, 8, 8), np.float32)})
