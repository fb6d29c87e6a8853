"""A stand-in for the `tensorrt` module that runs ONNX Runtime on the device's raw addresses.

It is strict where TensorRT is: shapes outside of a profile, addresses and memory that were not set,
plans that are not its own, and use without a device are failures. It is no TensorRT: what passes
with it has met the contract of sessions, and no GPU.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

SCRATCH_BYTES = 1000
_HEADER = b"STAND-IN"


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    pass


class DataType(enum.Enum):
    FLOAT, HALF, BF16, INT8, INT32, INT64, UINT8, BOOL = range(8)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


_DTYPES = {"float": "FLOAT", "float16": "HALF", "uint8": "UINT8", "int64": "INT64"}
_DTYPES |= {"int32": "INT32", "bool": "BOOL"}
_NUMPY = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT64": "int64"}
_NUMPY |= {"INT32": "int32", "BOOL": "bool"}

Outputs = dict[str, np.ndarray]


@dataclass
class Behaviour:
    """What a test changes of the stand-in, and what it has seen."""

    has_device: Callable[[], bool] = lambda: True
    version: str = "10.3.0.26"
    parser_errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By the name of the .onnx file."""
    build_error: str = ""
    run_error: str = ""
    spoil: Callable[[str, Outputs], object] = lambda file, outputs: None
    """Called with the name of the .onnx file and the outputs of every run, to change them."""
    while_building: Callable[[], object] = lambda: None
    builds: list[str] = field(default_factory=list)
    """Names of the .onnx files that were built."""
    tf32: list[bool] = field(default_factory=list)
    workspaces: list[int] = field(default_factory=list)
    timing_caches: list[bytes] = field(default_factory=list)
    runs: int = 0


class _Error:
    def __init__(self, text: str):
        self.text = text

    def desc(self) -> str:
        return self.text

    def node(self) -> int:
        return 7

    def node_operator(self) -> str:
        return "NonZero"


class _Session:
    """A graph in ONNX Runtime, as an engine describes it."""

    def __init__(self, path: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.name = Path(path).name
        self.ort = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self.ort.get_inputs()}
        self.outputs = {each.name: each for each in self.ort.get_outputs()}
        self.tensors = {**self.inputs, **self.outputs}

    def dtype(self, name: str) -> str:
        return _DTYPES[self.tensors[name].type.removeprefix("tensor(").removesuffix(")")]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(s if isinstance(s, int) else -1 for s in self.tensors[name].shape)

    def run(self, feeds: Mapping[str, np.ndarray]) -> Outputs:
        values = self.ort.run(None, dict(feeds))
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))


def make_module(behaviour: Behaviour) -> ModuleType:
    """Make a module that behaves as a test says."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = behaviour.version

    def check_device() -> None:
        assert behaviour.has_device(), "segmentation fault: TensorRT without a device"

    class Builder:
        def __init__(self, logger: ILogger):
            check_device()
            self.logger = logger

        def create_network(self, flags: int) -> Network:
            assert flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            assert network.session is not None and config.timing is not None
            behaviour.builds.append(network.session.name)
            behaviour.while_building()
            dynamic = any(-1 in network.session.shape(name) for name in network.session.inputs)
            assert dynamic == bool(config.profiles), "profiles of dynamic inputs"
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Inner", "Building", 9)
            goes_on = all(
                monitor.step_complete(*step) for step in (("Inner", 0), ("Building", 0))
            ) and monitor.step_complete("Building", 1)
            monitor.phase_finish("Inner")
            monitor.phase_finish("Building")
            if behaviour.build_error or not goes_on:
                self.logger.log(ILogger.ERROR, behaviour.build_error or "stopped")
                return None
            plan = {"path": network.path, "version": behaviour.version, "profiles": config.profiles}
            return _HEADER + json.dumps(plan).encode()

    class Network:
        path = ""
        session: _Session | None = None

    class OnnxParser:
        def __init__(self, network: Network, logger: ILogger):
            self.network = network
            self.errors: list[str] = []

        @property
        def num_errors(self) -> int:
            return len(self.errors)

        def parse_from_file(self, path: str) -> bool:
            self.errors = list(behaviour.parser_errors.get(Path(path).name, ()))
            if self.errors:
                return False
            self.network.path, self.network.session = path, _Session(path)
            return True

        def get_error(self, index: int) -> _Error:
            return _Error(self.errors[index])

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            assert all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
            self.shapes[input] = [list(min), list(opt), list(max)]

    class Timing:
        def __init__(self, content: bytes):
            self.content = content

        def serialize(self) -> bytes:
            return self.content + b"t"

    class Config:
        timing: Timing | None = None
        progress_monitor: Any = None

        def __init__(self) -> None:
            self.profiles: list[dict[str, Any]] = []

        def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
            assert pool is MemoryPoolType.WORKSPACE
            behaviour.workspaces.append(size)

        def set_flag(self, flag: BuilderFlag) -> None:
            behaviour.tf32.append(True)

        def clear_flag(self, flag: BuilderFlag) -> None:
            behaviour.tf32.append(False)

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile.shapes)
            return len(self.profiles) - 1

        def create_timing_cache(self, content: bytes) -> Timing:
            return Timing(content)

        def set_timing_cache(self, cache: Timing, ignore_mismatch: bool) -> bool:
            behaviour.timing_caches.append(cache.content)
            self.timing = cache
            return True

        def get_timing_cache(self) -> Timing | None:
            return self.timing

    class Runtime:
        def __init__(self, logger: ILogger):
            check_device()
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if not plan.startswith(_HEADER):
                self.logger.log(ILogger.ERROR, "magic tag does not match")
                return None
            content = json.loads(plan[len(_HEADER) :])
            if content["version"] != behaviour.version:
                self.logger.log(ILogger.ERROR, "incompatible version")
                return None
            return Engine(content, self.logger)

    class Engine:
        def __init__(self, plan: dict[str, Any], logger: ILogger):
            self.session, self.profiles = _Session(plan["path"]), plan["profiles"]
            self.logger = logger
            self.num_io_tensors = len(self.session.tensors)
            # Engines of fixed shapes have one profile too
            self.num_optimization_profiles = max(1, len(self.profiles))

        def get_tensor_name(self, index: int) -> str:
            return list(self.session.tensors)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self.session.inputs else TensorIOMode.OUTPUT

        def get_tensor_location(self, name: str) -> TensorLocation:
            return TensorLocation.DEVICE

        def get_tensor_dtype(self, name: str) -> DataType:
            return DataType[self.session.dtype(name)]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.session.shape(name)

        def get_tensor_profile_shape(self, name: str, index: int) -> list[Any]:
            fixed = self.session.shape(name)
            return self.profiles[index][name] if self.profiles else [fixed] * 3

        def create_execution_context(self, strategy: Any) -> Context:
            assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            return Context(self)

    class Context:
        def __init__(self, engine: Engine):
            self.engine, self.profile = engine, 0
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.results: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}
            self.scratch = (0, 0)

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            self.profile, self.shapes = index, {}
            return stream == 5 and index < self.engine.num_optimization_profiles

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
            self.shapes[name] = shape
            return len(shape) == len(least) and all(
                low <= side <= high for low, side, high in zip(least, shape, most, strict=True)
            )

        def infer_shapes(self) -> list[str]:
            missing = [name for name in self.engine.session.inputs if name not in self.shapes]
            if not missing:
                zeros = {name: self._zeros(name) for name in self.engine.session.inputs}
                found = self.engine.session.run(zeros)
                self.results = {name: value.shape for name, value in found.items()}
            return missing

        def _zeros(self, name: str) -> np.ndarray:
            return np.zeros(self.shapes[name], _NUMPY[self.engine.session.dtype(name)])

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self.shapes[name] if name in self.shapes else self.results[name]

        def update_device_memory_size_for_shapes(self) -> int:
            return SCRATCH_BYTES

        def set_device_memory(self, memory: int, size: int) -> None:
            self.scratch = (memory, size)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return memory != 0

        def execute_async_v3(self, stream: int) -> bool:
            behaviour.runs += 1
            session = self.engine.session
            assert stream == 5 and self.scratch[0] and self.scratch[1] >= SCRATCH_BYTES
            assert self.addresses.keys() == session.tensors.keys()
            if behaviour.run_error:
                self.engine.logger.log(ILogger.ERROR, behaviour.run_error)
                return False
            feeds = {name: self._read(name) for name in session.inputs}
            outputs = session.run(feeds)
            behaviour.spoil(session.name, outputs)
            for name, value in outputs.items():
                assert value.shape == self.results[name]
                data = np.ascontiguousarray(value)
                ctypes.memmove(self.addresses[name], data.ctypes.data, data.nbytes)
            return True

        def _read(self, name: str) -> np.ndarray:
            array = self._zeros(name)
            ctypes.memmove(array.ctypes.data, self.addresses[name], array.nbytes)
            return array

    enums: list[Any] = [DataType, TensorIOMode, TensorLocation, ExecutionContextAllocationStrategy]
    enums += [BuilderFlag, MemoryPoolType, NetworkDefinitionCreationFlag]
    for thing in (Builder, OnnxParser, Runtime, ILogger, IProgressMonitor, *enums):
        setattr(trt, thing.__name__, thing)
    return trt
