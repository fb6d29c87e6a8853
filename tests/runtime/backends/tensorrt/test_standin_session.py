"""Sessions of stand-ins for CUDA and TensorRT: shapes, dtypes, lifetimes, memory, errors.

ONNX Runtime computes, on the addresses that the session hands over. This is no test of TensorRT.
"""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from samrefine_runtime import backends
from samrefine_runtime.backends import SessionOptions
from samrefine_runtime.backends.checked import CheckedSession, RunsOn
from samrefine_runtime.backends.ort import open_cpu
from samrefine_runtime.backends.tensorrt import cuda, native, open_device
from samrefine_runtime.backends.tensorrt.memory import DeviceArray, Pool
from samrefine_runtime.backends.tensorrt.native import Engine, Plan, build_plan, load
from samrefine_runtime.backends.tensorrt.session import TrtSession
from samrefine_runtime.bundle import Bundle, Graph
from samrefine_runtime.engines.profiles import profiles_of
from samrefine_runtime.errors import BackendError, BackendUnavailableError, InferenceError
from tests.samples import ONE_THREAD
from tests.standins.machine import Machine
from tests.standins.tensorrt_standin import SCRATCH_BYTES

LIMITS = {"most_prompts": 8, "most_side": 512}


@pytest.fixture
def bundle(small_bundle: Path) -> Bundle:
    return Bundle.load(small_bundle, check_hashes=False)


def plan_of(graph: Graph) -> Plan:
    return build_plan(load(), graph.path, profiles_of(graph, **LIMITS), workspace=1)


def session_of(graph: Graph) -> TrtSession:
    device = open_device()
    return TrtSession(graph.name, Engine(load(), plan_of(graph).content), device)


def image(batch: int = 2, height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(batch).random((batch, 3, height, width), np.float32)


def embedding(bundle: Bundle) -> np.ndarray:
    shape = (1, *bundle.require_sam().embedding)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_outputs_are_those_of_the_graph(gpu: Machine, bundle: Bundle) -> None:
    graph = bundle.graph("cam")
    session, reference = session_of(graph), open_cpu(graph, ONE_THREAD)
    # Sizes go up and down: buffers are larger than what is in them
    for shape in [(2, 24, 40), (1, 64, 64), (2, 8, 12)]:
        feeds = {"image": image(*shape)}
        actual, expected = session.run(feeds), reference.run(feeds)
        assert {n: (v.shape, v.dtype) for n, v in actual.items()} == {
            n: (v.shape, v.dtype) for n, v in expected.items()
        }
        assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def test_tensors_are_described_as_the_manifest_does(gpu: Machine, bundle: Bundle) -> None:
    for name in ("encoder", "decoder", "cam"):
        graph = bundle.graph(name)
        CheckedSession(graph, session_of(graph), RunsOn("tensorrt", {}))


def test_arrays_in_any_layout(gpu: Machine, bundle: Bundle) -> None:
    session = session_of(bundle.graph("cam"))
    plain = image(2, 16, 16)
    turned = np.asfortranarray(plain)
    strided = np.repeat(plain, 2, axis=3)[..., ::2]
    expected = session.run({"image": plain})["cam"]
    for other in (turned, strided):
        assert np.array_equal(session.run({"image": other})["cam"], expected)


def test_what_stays_on_the_device_is_fed_without_a_copy(gpu: Machine, bundle: Bundle) -> None:
    encoder, decoder = (session_of(bundle.graph(name)) for name in ("encoder", "decoder"))
    pixels = np.random.default_rng(0).normal(size=(1, 3, 256, 256)).astype(np.float32)
    prompts = decoder_prompts(bundle, 3)
    expected = decoder.run({**encoder.run({"image": pixels}), **prompts})
    kept = encoder.run_on_device({"image": pixels})
    assert isinstance(kept["image_embeddings"], DeviceArray)
    before = gpu.get("copies")
    actual = decoder.run({**kept, **prompts})
    # The prompts' four inputs and the two outputs; not the embedding
    assert gpu.get("copies") - before == 6
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def decoder_prompts(bundle: Bundle, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    low_res = bundle.require_sam().low_res_shape
    return {
        "point_coords": (256 * rng.random((count, 2, 2))).astype(np.float32),
        "point_labels": np.ones((count, 2), np.float32),
        "mask_input": np.zeros((count, 1, *low_res), np.float32),
        "has_mask_input": np.zeros(count, np.float32),
    }


def test_outputs_that_are_fetched(gpu: Machine, bundle: Bundle) -> None:
    session = session_of(bundle.graph("cam"))
    feeds = {"image": image()}
    mixed, expected = session.run_on_device(feeds, ["logits"]), session.run(feeds)
    assert isinstance(mixed["cam"], DeviceArray) and mixed["cam"].shape == expected["cam"].shape
    assert np.array_equal(mixed["logits"], expected["logits"])
    assert np.array_equal(mixed["cam"].fetch(), expected["cam"])


def test_device_arrays_outlive_later_runs(gpu: Machine, bundle: Bundle) -> None:
    """Their memory is not given to anything else while something refers to them."""
    session = session_of(bundle.graph("cam"))
    kept = [session.run_on_device({"image": image(1 + i % 2, 16, 16 + i)}) for i in range(8)]
    expected = [session.run({"image": image(1 + i % 2, 16, 16 + i)})["cam"] for i in range(8)]
    assert len({each["cam"].address for each in kept}) == 8
    assert all(np.array_equal(k["cam"].fetch(), e) for k, e in zip(kept, expected, strict=True))


def test_memory_is_used_again(gpu: Machine, bundle: Bundle) -> None:
    session = session_of(bundle.graph("cam"))
    session.run({"image": image()})
    used = gpu.get("used")
    for _ in range(20):
        session.run({"image": image()})
    assert gpu.get("used") == used > SCRATCH_BYTES
    # Another graph works in the same memory
    other = session_of(bundle.graph("cam"))
    other.run({"image": image()})
    assert gpu.get("used") == used


def test_memory_is_given_back_where_it_is_short(gpu: Machine) -> None:
    device = cuda.open_cuda()
    pool = Pool(device)
    small = [pool.take(1 << 20) for _ in range(8)]
    assert gpu.get("used") == 8 << 20
    gpu.set("limit", 9 << 20)
    with pytest.raises(MemoryError, match=r"5 MB do not fit into the GPU's memory, of which 1 MB"):
        pool.take(5 << 20)
    del small[2:]
    gc.collect()
    assert pool.take(5 << 20).size == 5 << 20
    pool.release()
    assert gpu.get("used") == 2 << 20


def test_a_block_is_not_used_for_much_less(gpu: Machine) -> None:
    pool = Pool(cuda.open_cuda())
    address = pool.take(1 << 20).address
    assert pool.take(100).address != address
    assert pool.take(600_000).address == address


def test_nothing_has_an_address_too(gpu: Machine) -> None:
    assert cuda.open_cuda().allocate(0) != 0


def test_threads_share_the_device(gpu: Machine, bundle: Bundle) -> None:
    sessions = [session_of(bundle.graph("cam")) for _ in range(4)]
    expected = sessions[0].run({"image": image()})["cam"]
    found: list[np.ndarray] = []

    def work(session: TrtSession) -> None:
        for _ in range(5):
            found.append(session.run({"image": image()})["cam"])

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and all(np.array_equal(each, expected) for each in found)


def test_too_little_memory_is_a_memory_error(gpu: Machine, bundle: Bundle) -> None:
    session = session_of(bundle.graph("cam"))
    gpu.set("limit", 1 << 18)
    with pytest.raises(MemoryError, match="do not fit into the GPU's memory"):
        session.run({"image": image(2, 400, 400)})
    # Smaller ones do
    assert session.run({"image": image(1, 8, 8)})["cam"].shape[0] == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("CUDA error: out of memory", MemoryError),
        ("[genericAllocator] OutOfMemory: requested 5 GB", MemoryError),
        ("Cask error in\n\x1b[31mconvolution", InferenceError),
    ],
)
def test_what_tensorrt_says_of_a_failed_run(
    gpu: Machine, bundle: Bundle, text: str, error: type[Exception]
) -> None:
    session = session_of(bundle.graph("cam"))
    gpu.behaviour.run_error = text
    with pytest.raises(error, match="TensorRT failed at a run: ") as caught:
        session.run({"image": image()})
    assert str(caught.value).isprintable()
    gpu.behaviour.run_error = ""
    assert session.run({"image": image()})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"graph 'cam' takes image float32 \(\?, 3, \?, \?\), which is not given"),
        ({"image": np.zeros((1, 3, 8, 8))}, r"not float64 \(1, 3, 8, 8\)"),
        ({"image": np.zeros((3, 8, 8), np.float32)}, r"not float32 \(3, 8, 8\)"),
        ({"image": np.zeros((1, 4, 8, 8), np.float32)}, r"image of \(1, 3, 1, 1\) to \(2, 3, 512"),
        ({"image": np.zeros((0, 3, 8, 8), np.float32)}, r"not \(0, 3, 8, 8\)"),
    ],
)
def test_inputs_that_do_not_fit(
    gpu: Machine, bundle: Bundle, feeds: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InferenceError, match=message):
        session_of(bundle.graph("cam")).run(feeds)


def test_batches_beyond_the_engine_are_short_of_memory(gpu: Machine, bundle: Bundle) -> None:
    """So that callers halve them."""
    decoder = session_of(bundle.graph("decoder"))
    feeds = {"image_embeddings": embedding(bundle), **decoder_prompts(bundle, 9)}
    with pytest.raises(MemoryError, match=r"point_coords of \(1, 1, 2\) to \(8, 16, 2\), not \(9"):
        decoder.run(feeds)
    assert decoder.run({"image_embeddings": embedding(bundle), **decoder_prompts(bundle, 8)})


def test_profiles_change_with_the_shapes(gpu: Machine, bundle: Bundle) -> None:
    graph = bundle.graph("cam")
    profiles = profiles_of(graph, most_prompts=8, most_side=1024)
    assert len(profiles) == 2
    plan = build_plan(load(), graph.path, profiles, workspace=1) if open_device() else None
    assert plan is not None
    session = TrtSession("cam", Engine(load(), plan.content), open_device())
    reference = open_cpu(graph, ONE_THREAD)
    for width in (16, 600, 16):
        feeds = {"image": image(1, 16, width)}
        assert np.array_equal(session.run(feeds)["cam"], reference.run(feeds)["cam"])


def test_every_parser_error_is_shown(gpu: Machine, bundle: Bundle) -> None:
    errors = [f"unsupported \x1b[2J{number}" for number in range(3)]
    gpu.behaviour.parser_errors = {"cam.onnx": errors}
    open_device()
    with pytest.raises(BackendError, match=r"rejects cam\.onnx: .*2J0 .*2J1 .*2J2") as caught:
        plan_of(bundle.graph("cam"))
    assert str(caught.value).isprintable() and "(node 7, NonZero)" in str(caught.value)


def test_a_build_without_a_plan_says_why(gpu: Machine, bundle: Bundle) -> None:
    gpu.behaviour.build_error = "no implementation for {ForeignNode}"
    open_device()
    with pytest.raises(BackendError, match=r"cannot build cam\.onnx: no implementation for \{For"):
        plan_of(bundle.graph("cam"))


def test_ctrl_c_ends_a_build(gpu: Machine, bundle: Bundle) -> None:
    """It arrives in a callback, through which no exception may pass."""
    graph = bundle.graph("cam")

    def press(done: int, total: int) -> None:
        raise KeyboardInterrupt

    open_device()
    profiles = profiles_of(graph, **LIMITS)
    with pytest.raises(KeyboardInterrupt):
        build_plan(load(), graph.path, profiles, workspace=1, progress=press)
    plan_of(graph)


def test_progress_is_that_of_the_outermost_phase(gpu: Machine, bundle: Bundle) -> None:
    graph, seen = bundle.graph("cam"), []
    open_device()
    profiles = profiles_of(graph, **LIMITS)
    build_plan(load(), graph.path, profiles, workspace=1, progress=lambda *s: seen.append(s))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("plan", [b"", b"not a plan", None])
def test_a_plan_that_does_not_load(gpu: Machine, bundle: Bundle, plan: bytes | None) -> None:
    open_device()
    if plan is None:
        plan = plan_of(bundle.graph("cam")).content
        gpu.behaviour.version = "10.3.0.30"
    with pytest.raises(BackendError, match=r"cannot load the engine: (magic tag|incompatible)"):
        Engine(load(), plan)


# What is missing on a machine


def test_without_a_gpu_tensorrt_is_not_touched(gpu: Machine) -> None:
    gpu.set("devices", 0)
    with pytest.raises(BackendUnavailableError, match=r"^CUDA finds no NVIDIA GPU$") as caught:
        open_device()
    assert not caught.value.is_broken


@pytest.mark.parametrize("status", [100, 35])
def test_no_driver_is_no_gpu(gpu: Machine, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """CUDA calls a driver that is not there too old."""
    monkeypatch.setattr(cuda, "_DRIVER", "libnowhere.so")
    gpu.set("status", status)
    with pytest.raises(BackendUnavailableError, match="finds no NVIDIA GPU"):
        open_device()


@pytest.mark.parametrize("status", [35, 803])
def test_wrong_driver(gpu: Machine, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(cuda, "_DRIVER", next(cuda._places()))
    gpu.set("status", status)
    message = r"^CUDA does not start: .* \(\d+\); see what nvidia-smi says$"
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        open_device()
    assert caught.value.is_broken


def test_without_cuda(gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_places", lambda: iter(["libnowhere.so"]))
    with pytest.raises(BackendUnavailableError, match=r"no libcudart\.so is found \(pip install"):
        open_device()


def test_without_tensorrt(gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError, match=r"samrefine-rt\[tensorrt\]") as caught:
        load()
    assert not caught.value.is_broken


def test_tensorrt_that_does_not_start(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailableError, match=r"libnvdla_compiler.*--runtime nv") as caught:
        load()
    assert caught.value.is_broken


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0.post12"])
def test_old_tensorrt_is_refused(gpu: Machine, version: str) -> None:
    sys.modules["tensorrt"].__version__ = version  # type: ignore[attr-defined]
    with pytest.raises(BackendUnavailableError, match=f"TensorRT {version} is too old: .* 10.3"):
        load()


def test_the_gpu_is_described(gpu: Machine) -> None:
    found = cuda.open_cuda()
    assert (found.name, found.compute_capability) == ("Stand-in", (8, 7))
    assert native.load().version == "10.3.0.26"


def test_a_failed_call_is_named(gpu: Machine) -> None:
    found = cuda.open_cuda()
    with pytest.raises(InferenceError, match=r"CUDA failed in cudaFree: an error \(1\)"):
        found.free(12345)


def test_auto_goes_on_without_engines(
    gpu: Machine, small_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        backends.open(Bundle.load(small_bundle).graph("cam"), SessionOptions(threads=1))
    message = "backend tensorrt is not used: the bundle has no TensorRT engines: samrefine build"
    assert caplog.records[0].message == message
