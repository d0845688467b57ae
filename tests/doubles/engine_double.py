"""A double of a TensorRT engine: `ICudaEngine` and `IExecutionContext`, computing by ONNX Runtime.

It stands where no GPU is. It takes the calls that a session makes, reads and writes the memory of
a `HostDevice` when the stream comes to it, and holds a session to TensorRT's rules: a shape
within the profile, an address for every tensor, scratch memory given, one run of a shape before
it is captured, and a captured context whose shape and addresses stay as they were.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from host_device import HostDevice

from gsp_deploy.device import Device
from gsp_deploy.runtime.batching import InputProfile
from gsp_deploy.runtime.shared_engine import SharedEngine

USER_MANAGED = object()
_TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(uint8)": "UINT8"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}


class EngineDouble:
    """An ONNX file as an engine with these profiles of its one input."""

    def __init__(
        self,
        path: Path,
        device: HostDevice,
        profiles: Sequence[InputProfile],
        *,
        scratch: int = 4096,
        capturable: bool = True,
    ) -> None:
        self.session = _open(str(path))
        self.device, self.profiles, self.capturable = device, list(profiles), capturable
        self.device_memory_size_v2 = scratch
        self.values = {v.name: v for v in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.input = self.session.get_inputs()[0].name
        self.contexts: weakref.WeakSet[ContextDouble] = weakref.WeakSet()
        self.refuses: str | None = None  # the name of a context's method that says no

    @property
    def num_io_tensors(self) -> int:
        return len(self.values)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self.values[name].type])

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name == self.input else "OUTPUT")

    def get_tensor_shape(self, name: str) -> list[int]:
        return [size if isinstance(size, int) else -1 for size in self.values[name].shape]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert name == self.input
        profile = self.profiles[index]
        return [profile.minimum, profile.optimum, profile.maximum]

    def create_execution_context(self, strategy: object) -> ContextDouble | None:
        assert strategy is USER_MANAGED
        if self.refuses == "create_execution_context":
            return None
        context = ContextDouble(self)
        self.contexts.add(context)
        return context


@functools.cache
def _open(path: str) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, settings)


class ContextDouble:
    """One execution context of it."""

    def __init__(self, engine: EngineDouble) -> None:
        self.engine, self.device = engine, engine.device
        self.profile = 0
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.scratch = (0, 0)
        self.warm: tuple[int, ...] | None = None

    def _refused(self, name: str) -> bool:
        return self.engine.refuses == name

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 256 == 0
        self.scratch = (address, size)

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        assert self.device.stream_of(handle)
        self.profile = index
        return not self._refused("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        profile = self.engine.profiles[self.profile]
        if self._refused("set_input_shape") or not profile.admits(shape[1:]):
            return False
        if not profile.minimum[0] <= shape[0] <= profile.maximum[0]:
            return False
        self.shape = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return ["x"] if self._refused("infer_shapes") or self.shape is None else []

    def get_tensor_shape(self, name: str) -> list[int]:
        assert self.shape is not None
        if name == self.engine.input:
            return list(self.shape)
        return list(self._compute(np.zeros(self.shape, self._numpy(self.engine.input)))[name].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self._refused("set_tensor_address")

    def execute_async_v3(self, handle: int) -> bool:
        stream = self.device.stream_of(handle)
        assert self.addresses.keys() == self.engine.values.keys(), "a tensor without an address"
        address, size = self.scratch
        assert size >= self.engine.device_memory_size_v2
        if size:
            self.device.bytes_at(address, size)
        capturing = stream.captured is not None
        if self._refused("execute_async_v3"):
            return False
        if capturing and (not self.engine.capturable or self.warm != self.shape):
            return False
        self.warm = self.shape
        state = (self.shape, dict(self.addresses), self.profile)

        def work() -> None:
            now = (self.shape, self.addresses, self.profile)
            assert now == state, "the context changed under a graph or a run"
            self._run()

        stream.add(work)
        return True

    def _run(self) -> None:
        assert self.shape is not None
        self.device._do(f"run {self.shape[0]}")
        name = self.engine.input
        results = self._compute(self._array(name, self.shape))
        for output, values in results.items():
            self._array(output, values.shape)[...] = values

    def _compute(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        names = [value.name for value in self.engine.session.get_outputs()]
        found = self.engine.session.run(names, {self.engine.input: inputs})
        return dict(zip(names, found, strict=True))

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(self._numpy(name))
        raw = self.device.bytes_at(self.addresses[name], math.prod(shape) * kind.itemsize)
        return raw.view(kind).reshape(shape)

    def _numpy(self, name: str) -> type:
        return _NUMPY[self.engine.get_tensor_dtype(name).name]


def share(path: Path, engine: EngineDouble, device: Device | None = None) -> SharedEngine:
    """Return the double as sessions take it, reached through another device if one is given."""
    return SharedEngine(path, engine, device or engine.device, "TensorRT double", USER_MANAGED)
