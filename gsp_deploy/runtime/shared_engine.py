"""A deserialised engine that several sessions share, with its tensors and profiles."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.base.elements import END_ELEMENTS
from gsp_deploy.device import Device
from gsp_deploy.errors import DeviceError, ModelFileError
from gsp_deploy.runtime.batching import InputProfile

# TensorRT's names of the element types that a model may take and return.
_AT_ENDS = {row.tensorrt: row.name for row in END_ELEMENTS}
OPEN = -1


@dataclass(frozen=True)
class EngineTensor:
    """One input or output: name, element type, shape with -1 for open sizes."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class SharedEngine:
    """One `ICudaEngine`, kept until its last session is closed.

    Attributes:
        path: the plan file.
        device: where it runs.
        runtime: the module that loaded it, with its version.
        input: the tensor of images.
        outputs: the tensors of results.
        profiles: shapes of the input that it was built for.
        scratch_bytes: device memory that one inference works in, at most.
    """

    def __init__(
        self, path: Path, engine: Any, device: Device, runtime: str, strategy: Any
    ) -> None:
        """Take over an engine.

        Args:
            path: the plan file, for messages.
            engine: a `tensorrt.ICudaEngine`, or an object with its methods.
            device: the device that it was loaded on.
            runtime: name and version of the module.
            strategy: `ExecutionContextAllocationStrategy.USER_MANAGED` of that module.

        Raises:
            ModelFileError: it does not have exactly one input.
        """
        self.path, self.device, self.runtime = path, device, runtime
        self._engine, self._strategy = engine, strategy
        self._users, self._lock = 0, threading.Lock()
        inputs, self.outputs = _tensors(engine, path)
        if len(inputs) != 1:
            found = ", ".join(tensor.name for tensor in inputs) or "none"
            raise ModelFileError(f"{path}: expected one input of images, found {found}")
        self.input = inputs[0]
        self.profiles = _profiles(engine, self.input)
        self.scratch_bytes = int(engine.device_memory_size_v2)

    def acquire(self) -> None:
        """Count one more session."""
        with self._lock:
            if self._engine is None:
                raise DeviceError(f"{self.path}: its last session is closed; open it again")
            self._users += 1

    def release(self) -> None:
        """Count one session less; the last one frees the engine."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._engine = None
        self.device.close()

    def create_context(self) -> Any:
        """Return a new `IExecutionContext` that has no device memory yet."""
        context = self._engine.create_execution_context(self._strategy)
        if context is None:
            raise DeviceError(f"{self.path}: TensorRT could not create an execution context")
        return context


def _tensors(engine: Any, path: Path) -> tuple[list[EngineTensor], tuple[EngineTensor, ...]]:
    inputs: list[EngineTensor] = []
    outputs: list[EngineTensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in _AT_ENDS:
            raise ModelFileError(
                f"{path}: {name} is of type {dtype}; expected {', '.join(_AT_ENDS)}"
            )
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        tensor = EngineTensor(name, _AT_ENDS[dtype], shape)
        kind = engine.get_tensor_mode(name).name
        (inputs if kind == "INPUT" else outputs).append(tensor)
    return inputs, tuple(outputs)


def _profiles(engine: Any, source: EngineTensor) -> tuple[InputProfile, ...]:
    if OPEN not in source.shape:
        return (InputProfile(source.shape, source.shape, source.shape),)
    return tuple(
        InputProfile(*map(_sizes, engine.get_tensor_profile_shape(source.name, index)))
        for index in range(engine.num_optimization_profiles)
    )


def _sizes(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in dims)
