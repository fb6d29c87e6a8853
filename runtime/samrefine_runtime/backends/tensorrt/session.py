"""A graph that runs in TensorRT."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from samrefine_runtime.backends.tensorrt.cuda import Cuda
from samrefine_runtime.backends.tensorrt.memory import Block, DeviceArray, Pool
from samrefine_runtime.backends.tensorrt.native import Engine, Shape, ShapeRange
from samrefine_runtime.bundle import TensorSpec
from samrefine_runtime.errors import InferenceError, printable


class Device(NamedTuple):
    """What all sessions share: they run one after the other, in one memory."""

    cuda: Cuda
    pool: Pool
    lock: RLock

    @classmethod
    def of(cls, cuda: Cuda) -> Device:
        """Return a device with an empty pool."""
        return cls(cuda, Pool(cuda), RLock())


class TrtSession:
    """A graph in TensorRT; see `Session`."""

    is_on_device = True

    def __init__(self, name: str, engine: Engine, device: Device):
        """Take a loaded engine.

        Args:
            name: of the graph, for messages.
            engine: no other session may use it.
            device: on which it was loaded.
        """
        self._name, self._engine, self._device = name, engine, device
        self.inputs: Sequence[TensorSpec] = engine.inputs
        self.outputs: Sequence[TensorSpec] = engine.outputs
        self._profiles = engine.profiles()

    def run(self, feeds: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Run the graph; see `Session.run`."""
        return self.run_on_device(feeds, [output.name for output in self.outputs])

    def run_on_device(
        self, feeds: Mapping[str, Any], fetch: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph and leave the outputs, but for those to fetch, on the device.

        See `Session.run_on_device`.
        """
        cuda = self._device.cuda
        with self._device.lock:
            inputs = {tensor.name: self._input(feeds, tensor.name) for tensor in self.inputs}
            outputs, scratch = self._outputs_for(inputs)
            tensors = {**inputs, **outputs}
            self._engine.execute(
                {name: array.address for name, array in tensors.items()},
                scratch.address,
                scratch.size,
                cuda.stream,
            )
            fetched = {name: outputs[name].fetch() for name in fetch}
            # Once per run: memory that goes back to the pool here is not in use any more, and a
            # failure is noticed in the run that it belongs to
            cuda.synchronize()
        return {**outputs, **fetched}

    def _input(self, feeds: Mapping[str, Any], name: str) -> DeviceArray:
        """Return an input on the device, where it may be already. Raises InferenceError."""
        (wanted,) = (tensor for tensor in self.inputs if tensor.name == name)
        if name not in feeds:
            raise InferenceError(f"graph {self._name!r} takes {wanted}, which is not given")
        value = feeds[name]
        if value.dtype != wanted.dtype or len(value.shape) != len(wanted.shape):
            raise InferenceError(
                f"graph {self._name!r} takes {wanted}, not {value.dtype} {value.shape}"
            )
        if isinstance(value, DeviceArray):
            return value
        array = np.ascontiguousarray(value).reshape(value.shape)
        copied = self._new(value.dtype.name, array.shape)
        # CUDA has read pageable memory when this returns: `array`, which may be a copy, may go
        self._device.cuda.upload(array, copied.address)
        return copied

    def _outputs_for(
        self, inputs: Mapping[str, DeviceArray]
    ) -> tuple[dict[str, DeviceArray], Block]:
        """Set the shapes of the inputs; return memory for the outputs, and for the run."""
        shapes = {name: array.shape for name, array in inputs.items()}
        stream = self._device.cuda.stream
        found = self._engine.set_shapes(self._profile_of(shapes), shapes, stream)
        outputs = {
            tensor.name: self._new(tensor.dtype, found[tensor.name]) for tensor in self.outputs
        }
        return outputs, self._device.pool.take(self._engine.scratch_bytes())

    def _new(self, dtype: str, shape: Shape) -> DeviceArray:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return DeviceArray(self._device.cuda, self._device.pool.take(size), dtype, shape)

    def _profile_of(self, shapes: Mapping[str, Shape]) -> int:
        """Return the first profile that has these shapes.

        Raises:
            MemoryError: the engine was built for less; callers that can will halve their batch.
            InferenceError: the engine was built for more.
        """
        for index, profile in enumerate(self._profiles):
            if all(_is_within(shape, profile[name]) for name, shape in shapes.items()):
                return index
        for name, shape in shapes.items():
            ranges = [profile[name] for profile in self._profiles]
            if not any(_is_within(shape, each) for each in ranges):
                raise _too_small_engine(self._name, name, shape, ranges)
        raise MemoryError(
            f"the engine of graph {self._name!r} takes {printable(shapes)} one by one, but not "
            "together: fewer at once"
        )


def _is_within(shape: Shape, allowed: ShapeRange) -> bool:
    return len(shape) == len(allowed.least) and all(
        least <= side <= most
        for side, least, most in zip(shape, allowed.least, allowed.most, strict=True)
    )


def _too_small_engine(
    graph: str, name: str, shape: Shape, ranges: Sequence[ShapeRange]
) -> Exception:
    """Return the error for a shape that is outside of all profiles."""
    largest = ranges[-1].most
    text = (
        f"the engine of graph {graph!r} takes {printable(name)} of {ranges[0].least} to {largest}, "
        f"not {shape}"
    )
    # Fixed axes are equal in all profiles; what exceeds a dynamic one may come in smaller parts
    is_too_large = all(side >= least for side, least in zip(shape, ranges[0].least, strict=True))
    is_dynamic = any(
        side > most > least
        for side, most, least in zip(shape, largest, ranges[0].least, strict=True)
    )
    if is_too_large and is_dynamic:
        return MemoryError(f"{text}; build it for more: samrefine build --most-prompts")
    return InferenceError(text)
