"""All that this package asks of the `tensorrt` module, which no other file sees.

Only what has the same name and meaning from TensorRT 10.3 to 11.4 is used; a test compares this
file with the bindings of both. Variables have the names of their classes in the documentation:
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from samrefine_runtime.bundle import TensorSpec
from samrefine_runtime.errors import (
    BackendError,
    BackendUnavailableError,
    InferenceError,
    printable,
)

_log = logging.getLogger(__name__)

_OLDEST = 10
"""Major version. Before, the importer did not know that reductions of opset 18 take their axes as
an input, and reduced over all axes without a word."""

_LONGEST_MESSAGE = 500
"""Characters; TensorRT's messages may contain whole nodes."""

_DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""NumPy's names of dtypes by those of `DataType`."""

Shape = tuple[int, ...]

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


class ShapeRange(NamedTuple):
    """The shapes of an input in one optimisation profile."""

    least: Shape
    best: Shape
    """The shape that the kernels are chosen for."""
    most: Shape


@dataclass(frozen=True)
class TensorRt:
    """The TensorRT that is installed."""

    module: Any
    version: str
    """Full version with the build number: plans of 10.3.0.26 and 10.3.0.30 do not load in each
    other, though the module calls both 10.3.0."""
    logger: Any

    def failure(self, what: str) -> str:
        """Return one line that says what failed, with what TensorRT has logged of it."""
        errors = "; ".join(dict.fromkeys(self.logger.errors)) or "it does not say why"
        self.logger.errors.clear()
        return f"{what}: {errors}"


@cache
def load() -> TensorRt:
    """Import TensorRT; only where there is a device, since without one it crashes.

    Raises:
        BackendUnavailableError: it is not installed, does not start, or is too old.
    """
    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        raise BackendUnavailableError(
            "tensorrt is not installed: pip install 'samrefine-rt[tensorrt]'; on Jetson "
            "apt install python3-libnvinfer"
        ) from None
    except (ImportError, OSError) as error:  # a library that it needs is missing
        raise BackendUnavailableError(
            f"tensorrt does not start: {_short(error)}; in a container on Jetson, run it with "
            "--runtime nvidia",
            is_broken=True,
        ) from None
    version = trt.__version__
    if int(version.split(".")[0]) < _OLDEST:
        raise BackendUnavailableError(
            f"TensorRT {printable(version)} is too old: before {_OLDEST} it computes reductions of "
            "these graphs wrongly, without an error; expected 10.3 or later "
            "(pip install 'samrefine-rt[tensorrt]', JetPack 6.1 or later)",
            is_broken=True,
        )
    return TensorRt(trt, _full_version(version), _make_logger(trt))


def _full_version(version: str) -> str:
    """Complete a version such as 10.3.0 with the build number of the library that is loaded."""
    first = version.split(".")[:3]
    try:
        build = ctypes.CDLL(f"libnvinfer.so.{first[0]}").getInferLibBuildVersion()
    except (OSError, AttributeError):  # linked in another way: the module's own is all we have
        return version
    return ".".join([*first, str(build)])


def _make_logger(trt: Any) -> Any:
    """Return a logger that remembers errors and hands the rest on; it must outlive everything."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=4)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(_short(msg))
            _log.debug("TensorRT: %s", _short(msg))

    return Logger()


def _short(text: object) -> str:
    return printable(" ".join(str(text).split()))[:_LONGEST_MESSAGE]


# Building


@dataclass(frozen=True)
class Plan:
    """A graph, built."""

    content: bytes
    timing_cache: bytes
    """What was measured while building, for the next build on this machine."""


def build_plan(
    native: TensorRt,
    path: Path,
    profiles: Sequence[Mapping[str, ShapeRange]],
    *,
    workspace: int,
    is_tf32: bool = False,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> Plan:
    """Build a graph for the device.

    Args:
        native: TensorRT.
        path: the .onnx file.
        profiles: shapes of the inputs with dynamic axes, by name; none for fixed shapes only.
        workspace: bytes of temporary memory that a layer may use.
        is_tf32: whether products of float32 may be computed in TF32, with 10 bits of mantissa.
        timing_cache: of an earlier build, or nothing.
        progress: called after each step.

    Raises:
        BackendError: TensorRT rejects the graph or fails to build it, with all that it says.
    """
    trt = native.module
    native.logger.errors.clear()
    builder = trt.Builder(native.logger)
    network = _parse(native, builder, path)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    # TensorRT allows it unless told otherwise
    (config.set_flag if is_tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    for shapes in profiles:
        _add_profile(builder, config, shapes)
    _set_timing_cache(config, timing_cache)
    monitor = _make_monitor(trt, progress or (lambda done, total: None))
    config.progress_monitor = monitor
    memory = builder.build_serialized_network(network, config)
    if monitor.interruption is not None:
        raise monitor.interruption
    if memory is None:
        raise BackendError(native.failure(f"TensorRT cannot build {printable(path.name)}"))
    timing = config.get_timing_cache()
    return Plan(bytes(memory), b"" if timing is None else bytes(timing.serialize()))


def _parse(native: TensorRt, builder: Any, path: Path) -> Any:
    """Read a graph into a network whose dtypes are those of the graph. Raises BackendError."""
    trt = native.module
    # TensorRT 11 has no other networks; 10 would choose precisions by itself
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, native.logger)
    # From the file: weights in files beside it are not found otherwise
    if not parser.parse_from_file(str(path)):
        errors = [_parser_text(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BackendError(
            f"TensorRT {native.version} rejects {printable(path.name)}: "
            + ("; ".join(errors) or native.failure("its parser"))
        )
    return network


def _parser_text(error: Any) -> str:
    return _short(f"{error.desc()} (node {error.node()}, {error.node_operator()})")


def _add_profile(builder: Any, config: Any, shapes: Mapping[str, ShapeRange]) -> None:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.least, shape.best, shape.most)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT rejects a profile of shapes {dict(shapes)}")


def _set_timing_cache(config: Any, content: bytes) -> None:
    """Use what was measured before; one of another device or version is of no use."""
    timing = config.create_timing_cache(content)
    if timing is None or not config.set_timing_cache(timing, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _make_monitor(trt: Any, progress: Progress) -> Any:
    """Return a monitor that reports the outermost phase and stops on Ctrl-C."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.interruption: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # An exception would cross TensorRT, which is not written for that: it is raised later
            try:
                if phase_name in self.steps:
                    progress(step + 1, self.steps[phase_name])
            except BaseException as error:  # Ctrl-C above all
                self.interruption = error
            return self.interruption is None

    return Monitor()


# Running


class Engine:
    """A plan that is loaded, with one execution context."""

    def __init__(self, native: TensorRt, plan: bytes):
        """Load a plan of this very TensorRT and GPU. Raises BackendError."""
        trt = native.module
        native.logger.errors.clear()
        self._native = native
        # The engine does not keep what it was made by
        self._runtime = runtime = trt.Runtime(native.logger)
        self._engine = engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(native.failure("TensorRT cannot load the engine"))
        # The context's memory is ours: it is shared between engines, and as large as shapes need
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.create_execution_context(strategy)
        if self._context is None:
            raise BackendError(native.failure("TensorRT cannot make a context for the engine"))
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        for name in names:
            if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise BackendError(f"{printable(name)} decides shapes, which no graph may ask for")
        modes = {name: engine.get_tensor_mode(name) for name in names}
        is_input = {name: mode == trt.TensorIOMode.INPUT for name, mode in modes.items()}
        self.inputs = tuple(self._spec(name) for name in names if is_input[name])
        self.outputs = tuple(self._spec(name) for name in names if not is_input[name])
        self._profile = 0

    def _spec(self, name: str) -> TensorSpec:
        engine = self._engine
        dtype = engine.get_tensor_dtype(name).name
        # Dynamic axes are -1, and have no names
        shape = tuple("?" if side < 0 else int(side) for side in engine.get_tensor_shape(name))
        return TensorSpec(name, _DTYPES.get(dtype, dtype), shape)

    def profiles(self) -> list[dict[str, ShapeRange]]:
        """Return the shapes that each input may have, per optimisation profile."""
        engine = self._engine
        indices = range(engine.num_optimization_profiles)
        return [
            {tensor.name: self._shapes(tensor, index) for tensor in self.inputs}
            for index in indices
        ]

    def _shapes(self, tensor: TensorSpec, profile: int) -> ShapeRange:
        # Nothing is said of profiles of fixed shapes
        if all(isinstance(side, int) for side in tensor.shape):
            fixed: Any = tensor.shape
            return ShapeRange(fixed, fixed, fixed)
        engine = self._engine
        found = engine.get_tensor_profile_shape(tensor.name, profile)
        return ShapeRange(*(tuple(map(int, shape)) for shape in found))

    def set_shapes(
        self, profile: int, shapes: Mapping[str, Shape], stream: int
    ) -> dict[str, Shape]:
        """Set the shapes of the inputs; return those of the outputs. Raises InferenceError."""
        context = self._context
        if profile != self._profile:
            self._check(context.set_optimization_profile_async(profile, stream), "its profile")
            self._profile = profile
        for name, shape in shapes.items():
            self._check(context.set_input_shape(name, shape), f"shape {shape} of {printable(name)}")
        missing = context.infer_shapes()
        self._check(not missing, f"shapes without {printable(', '.join(missing))}")
        names = [tensor.name for tensor in self.outputs]
        found = {name: tuple(map(int, context.get_tensor_shape(name))) for name in names}
        self._check(all(min(each, default=0) >= 0 for each in found.values()), f"shapes {found}")
        return found

    def scratch_bytes(self) -> int:
        """Return how much temporary memory a run with the shapes that are set needs."""
        context = self._context
        return int(context.update_device_memory_size_for_shapes())

    def execute(self, addresses: Mapping[str, int], scratch: int, size: int, stream: int) -> None:
        """Enqueue a run with the shapes that are set.

        Args:
            addresses: of all inputs and outputs on the device.
            scratch: address of the temporary memory.
            size: of the temporary memory, bytes.
            stream: CUDA's handle of the stream.

        Raises:
            MemoryError: TensorRT ran out of memory.
            InferenceError: it failed otherwise.
        """
        context = self._context
        context.set_device_memory(scratch, size)
        for name, address in addresses.items():
            self._check(context.set_tensor_address(name, address), f"memory of {printable(name)}")
        self._check(context.execute_async_v3(stream), "a run")

    def _check(self, is_done: bool, what: str) -> None:
        """Raise what TensorRT has logged unless a call succeeded."""
        if is_done:
            return
        message = self._native.failure(f"TensorRT failed at {what}")
        if "out of memory" in message.lower() or "outofmemory" in message.lower():
            raise MemoryError(message)
        raise InferenceError(message)
