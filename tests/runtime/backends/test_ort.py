"""ONNX Runtime: what cannot run says why."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.ort import open_cpu, open_cuda
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.errors import BackendError, BackendUnavailableError, InferenceError
from tests.samples import ONE_THREAD


@pytest.fixture
def graph(small_bundle: Path) -> Graph:
    return Bundle.load(small_bundle, check_hashes=False).graph("cam")


def test_outputs_by_name(graph: Graph) -> None:
    image = np.zeros((2, 3, 8, 12), np.float32)
    outputs = open_cpu(graph, ONE_THREAD).run({"image": image})
    assert {name: value.shape for name, value in outputs.items()} == {
        "cam": (2, 3, 2, 3),
        "logits": (2, 3),
    }


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_threads_do_not_change_the_result(graph: Graph, threads: int | None) -> None:
    image = np.random.default_rng(0).random((1, 3, 40, 40), np.float32)
    expected = open_cpu(graph, ONE_THREAD).run({"image": image})
    actual = open_cpu(graph, SessionOptions(threads=threads)).run({"image": image})
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
    graph = Bundle.load(small_bundle, check_hashes=False).graph("decoder")
    load_and_keep(str(graph.path), onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
    assert b"SkipLayerNormalization" in path.read_bytes()
    open_cpu(graph, ONE_THREAD)
    assert b"SkipLayerNormalization" not in path.read_bytes()


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"pip install 'samrefine-rt\[cpu\]' for CPUs or"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        open_cpu(graph, ONE_THREAD)
    assert not caught.value.is_broken
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=message):
        backends.open(graph, ONE_THREAD)


def test_cuda_where_onnxruntime_has_none(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    message = r"has no CUDAExecutionProvider .*samrefine-rt\[gpu\]"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        open_cuda(graph, ONE_THREAD)
    assert not caught.value.is_broken
    assert backends.open(graph, ONE_THREAD)


def test_both_builds_of_onnxruntime(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    """They overwrite each other's files, and CUDA is gone without a word."""
    import onnxruntime

    from samrefine_runtime.backends import ort

    both = [SimpleNamespace(metadata={"Name": n}) for n in ("ONNXRuntime", "onnxruntime-gpu", None)]
    monkeypatch.setattr(ort, "distributions", lambda: both)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match="are installed over each other") as caught:
        open_cuda(graph, ONE_THREAD)
    assert caught.value.is_broken
    assert open_cpu(graph, ONE_THREAD)


def test_another_precision_needs_another_engine(graph: Graph) -> None:
    with pytest.raises(BackendUnavailableError, match="has no bf16 on CPUs") as caught:
        open_cpu(graph, SessionOptions(threads=1, precision="bf16"))
    assert not caught.value.is_broken


def test_another_precision_is_another_graph(graph: Graph, tmp_path: Path) -> None:
    fp16 = SessionOptions(threads=1, precision="fp16")
    with pytest.raises(BackendUnavailableError, match="export it with --precision fp16"):
        open_cpu(graph, fp16)
    broken = replace(graph, path=tmp_path / "broken.onnx")
    open_cpu(replace(broken, variants={"fp16": graph}), fp16)
    with pytest.raises(BackendError, match=r"cannot load .*broken"):
        open_cpu(replace(graph, variants={"fp16": broken}), fp16)


def test_cuda_asks_for_no_tensorrt(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    """ONNX Runtime's TensorRT provider builds engines that nobody has compared with anything."""
    import onnxruntime

    asked: list[list[str]] = []

    def note(*arguments: Any, providers: list[str], **options: Any) -> None:
        asked.append(providers)
        raise RuntimeError("no GPU here")

    offered = [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    with pytest.raises(BackendError, match="no GPU here"):
        open_cuda(graph, ONE_THREAD)
    assert asked == [["CUDAExecutionProvider", "CPUExecutionProvider"]]


@pytest.mark.parametrize("given", [None, "0"])
def test_onnxruntime_is_told_to_send_nothing(given: str | None, small_bundle: Path) -> None:
    """Before it is imported, where nobody has said otherwise."""
    code = (
        "import builtins, os, sys\n"
        "load, found = builtins.__import__, []\n"
        "def note(name, *rest):\n"
        "    if name == 'onnxruntime': found.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = note\n"
        "from samrefine_runtime.backends.ort import import_onnxruntime\n"
        "import_onnxruntime()\n"
        "print(found[0])\n"
    )
    env = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    env |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.stdout == f"{given or 1}\n", done.stderr


def test_cuda_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    """An onnxruntime built for CUDA goes on with the CPU where CUDA's libraries are missing."""
    import onnxruntime

    load, offered = onnxruntime.InferenceSession, ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def fall_back(*arguments: Any, providers: list[str], **options: Any) -> Any:
        return load(*arguments, providers=providers[-1:], **options)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    message = "offers CUDAExecutionProvider but could not start it"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        open_cuda(graph, ONE_THREAD)
    assert caught.value.is_broken
    assert not caplog.records
    backends.open(graph, ONE_THREAD)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("backend cuda is not used: ONNX Runtime offers CUDAExec")
    assert record.message.endswith("CUDA or cuDNN may be missing")


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_graph(tmp_path: Path, graph: Graph, content: bytes | None) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(graph.path.read_bytes()[:200] if content is None else content)
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load .*damaged\.onnx"):
        open_cpu(replace(graph, path=path), ONE_THREAD)


def test_missing_graph(tmp_path: Path, graph: Graph) -> None:
    with pytest.raises(BackendError, match="cannot load"):
        open_cpu(replace(graph, path=tmp_path / "none.onnx"), ONE_THREAD)


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
def test_inputs_that_do_not_fit(graph: Graph, feeds: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        open_cpu(graph, ONE_THREAD).run(feeds)


def test_failures_of_a_graph_are_one_line_and_printed_nowhere(
    small_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prompts of two counts, which only a node inside the graph notices."""
    session = open_cpu(Bundle.load(small_bundle, check_hashes=False).graph("decoder"), ONE_THREAD)
    feeds = {
        "image_embeddings": np.zeros((1, 32, 16, 16), np.float32),
        "point_coords": np.zeros((2, 3, 2), np.float32),
        "point_labels": np.zeros((5, 3), np.float32),
        "mask_input": np.zeros((2, 1, 64, 64), np.float32),
        "has_mask_input": np.zeros(2, np.float32),
    }
    with pytest.raises(InferenceError, match="ONNX Runtime failed: ") as caught:
        session.run(feeds)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    assert capfd.readouterr() == ("", "")


def test_what_an_engine_says_of_strangers_names(
    monkeypatch: pytest.MonkeyPatch, graph: Graph
) -> None:
    """Names of nodes are in its messages, however long and whatever they hold."""
    import onnxruntime

    def reject(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no kernel for\n\x1b[31m" + "node" * 10_000)

    monkeypatch.setattr(onnxruntime, "InferenceSession", reject)
    with pytest.raises(BackendError) as caught:
        open_cpu(graph, ONE_THREAD)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 800
    assert "no kernel for \\x1b[31mnode" in str(caught.value)


def test_inputs_and_outputs_are_described(graph: Graph) -> None:
    session = open_cpu(graph, ONE_THREAD)
    assert session.inputs == graph.inputs
    assert [tensor.name for tensor in session.outputs] == ["cam", "logits"]
    assert {tensor.dtype for tensor in session.outputs} == {"float32"}


def test_out_of_memory_is_a_memory_error(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime says when an arena cannot grow."""
    import onnxruntime

    class Full(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *arguments: object) -> None:
            raise RuntimeError("Non-zero status code: Failed to allocate memory for requested")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Full)
    session = open_cpu(graph, ONE_THREAD)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        session.run({"image": np.zeros((1, 3, 8, 8), np.float32)})


def test_outputs_on_the_device_can_be_fed(small_bundle: Path) -> None:
    """The image's part of the decoder, then the prompts'."""
    bundle = Bundle.load(small_bundle, check_hashes=False)
    image, tokens, masks = (
        open_cpu(bundle.graph(f"everything_{part}"), ONE_THREAD)
        for part in ("image", "tokens", "masks")
    )
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, *bundle.require_sam().embedding)).astype(np.float32)
    points = {"point_coords": np.array([[20, 30], [200, 100]], np.float32)}
    choice = {"prompt": np.array([0, 1]), "mask": np.array([0, 4])}
    # All in arrays
    shared = image.run({"image_embeddings": embedding})
    upscaling = {"upscaling": shared.pop("upscaling")}
    views = tokens.run({**points, **shared})
    scores = views.pop("iou_predictions")
    expected = masks.run({**views, **upscaling, **choice})["low_res_masks"]
    # All on the device but what is fetched
    shared = image.run_on_device({"image_embeddings": embedding})
    upscaling = {"upscaling": shared.pop("upscaling")}
    views = tokens.run_on_device({**points, **shared}, fetch=["iou_predictions"])
    assert np.array_equal(views.pop("iou_predictions"), scores)
    assert not any(isinstance(view, np.ndarray) for view in views.values())
    assert np.array_equal(masks.run({**views, **upscaling, **choice})["low_res_masks"], expected)
    low_res = masks.run_on_device({**views, **upscaling, **choice})["low_res_masks"]
    assert np.array_equal(low_res.numpy(), expected)


def test_values_on_the_device_are_bound_where_they_lie(
    small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU a copy to the host and back would cost more than the run."""
    import onnxruntime

    class Binding(onnxruntime.IOBinding):  # type: ignore[misc]
        bound: ClassVar[dict[str, int]] = {}

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            self.bound[name] = value.data_ptr()
            super().bind_ortvalue_input(name, value)

    def bind(session: Any) -> Binding:
        return Binding(session)

    monkeypatch.setattr(onnxruntime.InferenceSession, "io_binding", bind)
    monkeypatch.setattr(onnxruntime.OrtValue, "numpy", refuse_to_copy(onnxruntime.OrtValue.numpy))
    bundle = Bundle.load(small_bundle, check_hashes=False)
    image, tokens = (
        open_cpu(bundle.graph(name), ONE_THREAD)
        for name in ("everything_image", "everything_tokens")
    )
    embedding = np.zeros((1, *bundle.require_sam().embedding), np.float32)
    shared = image.run_on_device({"image_embeddings": embedding})
    del shared["upscaling"]
    points = {"point_coords": np.array([[20, 30]], np.float32)}
    outputs = tokens.run({**points, **shared})
    assert {name: value.data_ptr() for name, value in shared.items()} == Binding.bound
    assert {type(value) for value in outputs.values()} == {np.ndarray}
    # They can be fed on, to a run whose outputs stay
    assert len(tokens.run_on_device({**points, **shared})) == len(outputs)


def refuse_to_copy(numpy: Any) -> Any:
    """Let outputs alone become arrays, which are the largest here."""

    def copied(value: Any) -> Any:
        assert value.shape()[0] == 1, f"a device value {value.shape()} was copied to the host"
        return numpy(value)

    return copied
