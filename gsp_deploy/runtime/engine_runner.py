"""Run an engine on its own stream: buffers, execution contexts, CUDA graphs.

A context is kept for each shape, since a captured graph stays valid only while its context keeps
that shape. All contexts of a runner work in the same scratch memory: they run one after another.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.base.encoding import storage_of
from gsp_deploy.device import Device
from gsp_deploy.device.growing_memory import GrowingMemory
from gsp_deploy.device.protocol import Graph, Stream
from gsp_deploy.errors import DeviceError
from gsp_deploy.runtime.shared_engine import EngineTensor, SharedEngine

# Number of shapes to keep contexts and graphs for; the least recently used one goes first.
KEPT_SHAPES = 16
# TensorRT finishes its work for a new shape in the first run, which cannot be captured.
RUNS_BEFORE_CAPTURE = 1
# A capture that failed is tried again after so many times the runs: another thread may have
# disturbed it.
_PATIENCE = 10


@dataclass
class PreparedShape:
    """A context set up for one shape of the input.

    Attributes:
        shape: of the input.
        profile: index of the optimisation profile.
        context: the `IExecutionContext`.
        outputs: shape of every output.
        generation: of the buffers that the context has the addresses of.
        graph: the captured run; None before it is captured, or without graphs.
        runs: how often it ran.
        capture_after: the number of runs before the next attempt to capture it.
    """

    shape: tuple[int, ...]
    profile: int
    context: Any
    outputs: Mapping[str, tuple[int, ...]]
    generation: int = -1
    graph: Graph | None = None
    runs: int = field(default=0, compare=False)
    capture_after: int = field(default=RUNS_BEFORE_CAPTURE, compare=False)


class EngineRunner:
    """Runs batches of exact shapes; every method is called with the device current.

    Attributes:
        engine: the engine that runs.
        device: the device that it runs on.
        stream: its stream.
        no_graphs: why runs are not captured as CUDA graphs; None if they are. After a capture
            that failed, the reason, until one succeeds.
        has_dropped: more shapes came than are kept.
    """

    def __init__(self, engine: SharedEngine, *, cuda_graphs: bool, wait: str) -> None:
        self.engine, self.device = engine, engine.device
        self.no_graphs = _why_no_graphs(self.device, cuda_graphs)
        self._captures = self.no_graphs is None
        self.has_dropped = False
        self._shapes: OrderedDict[tuple[int, tuple[int, ...]], PreparedShape] = OrderedDict()
        with ExitStack() as stack:
            device = self.device
            self.stream: Stream = device.create_stream()
            stack.callback(device.destroy_stream, self.stream)
            if wait == "spin":
                device.spin()
            self._done = device.create_event(blocking=wait == "block")
            stack.callback(device.destroy_event, self._done)
            self._scratch = _kept(GrowingMemory(device.allocate, device.free), stack)
            self._on_device = {t.name: self._buffer(stack) for t in self._tensors}
            self._on_host = {t.name: self._host_buffer(stack) for t in self._tensors}
            if engine.scratch_bytes:
                self._scratch.reserve(engine.scratch_bytes)
            stack.callback(self._drop_shapes)
            self._resources = stack.pop_all()

    @property
    def _tensors(self) -> tuple[EngineTensor, ...]:
        return (self.engine.input, *self.engine.outputs)

    def _buffer(self, stack: ExitStack) -> GrowingMemory[int]:
        return _kept(GrowingMemory(self.device.allocate, self.device.free), stack)

    def _host_buffer(self, stack: ExitStack) -> GrowingMemory[np.ndarray]:
        return _kept(GrowingMemory(self.device.allocate_host, self.device.free_host), stack)

    def prepare(self, shape: tuple[int, ...], profile: int, largest: int) -> PreparedShape:
        """Return the context for a shape, with buffers for it.

        Args:
            shape: of the input, batch first.
            profile: index of the optimisation profile.
            largest: the most images that a batch of this size of image may have; buffers are
                allocated for that many.
        """
        prepared = self._shapes.get((profile, shape))
        if prepared is None:
            prepared = self._add_shape(shape, profile)
        self._shapes.move_to_end((profile, shape))
        room = max(largest, shape[0])
        sizes = {self.engine.input.name: shape, **prepared.outputs}
        needed = {t.name: _bytes((room, *sizes[t.name][1:]), t.dtype) for t in self._tensors}
        self._reserve(needed)
        self._bind(prepared)
        return prepared

    def _add_shape(self, shape: tuple[int, ...], profile: int) -> PreparedShape:
        while len(self._shapes) >= KEPT_SHAPES:
            self._finish()
            self._drop(self._shapes.popitem(last=False)[1])
            self.has_dropped = True
        context = self.engine.create_context()
        name = self.engine.input.name
        if self._scratch.size:
            context.set_device_memory(self._scratch.memory, self._scratch.size)
        handle = self.device.handle_of(self.stream)
        self._accepted(
            profile == 0 or context.set_optimization_profile_async(profile, handle),
            f"profile {profile}",
        )
        self._accepted(context.set_input_shape(name, shape), f"{name} of shape {shape}")
        self._accepted(not context.infer_shapes(), f"{name} of shape {shape}")
        outputs = {
            tensor.name: tuple(int(size) for size in context.get_tensor_shape(tensor.name))
            for tensor in self.engine.outputs
        }
        self._shapes[profile, shape] = PreparedShape(shape, profile, context, outputs)
        return self._shapes[profile, shape]

    def _reserve(self, needed: Mapping[str, int]) -> None:
        if any(self._on_device[name].size < size for name, size in needed.items()):
            self._finish()
        for name, size in needed.items():
            self._on_device[name].reserve(size)

    def _bind(self, prepared: PreparedShape) -> None:
        """Set the buffers' addresses in the context; drop a graph that was captured with others."""
        generation = sum(buffer.generation for buffer in self._on_device.values())
        if prepared.generation == generation:
            return
        self._drop(prepared)
        for name, buffer in self._on_device.items():
            self._accepted(
                prepared.context.set_tensor_address(name, buffer.memory), f"the address of {name}"
            )
        prepared.generation, prepared.runs = generation, 0
        prepared.capture_after = RUNS_BEFORE_CAPTURE

    def host_input(self, prepared: PreparedShape) -> np.ndarray:
        """Return page-locked memory for the input, in its storage type."""
        source = self.engine.input
        return self._host_view(source, prepared.shape)

    def host_output(self, prepared: PreparedShape, name: str) -> np.ndarray:
        """Return page-locked memory for an output, in its storage type."""
        return self._host_view(self._tensor(name), prepared.outputs[name])

    def _host_view(self, tensor: EngineTensor, shape: tuple[int, ...]) -> np.ndarray:
        size = _bytes(shape, tensor.dtype)
        buffer = self._on_host[tensor.name]
        if buffer.size < size:
            self._finish()
            # As large as the device buffer, so that it grows as rarely.
            buffer.reserve(max(size, self._on_device[tensor.name].size))
        return buffer.memory[:size].view(storage_of(tensor.dtype)).reshape(shape)

    def upload(self, prepared: PreparedShape) -> None:
        """Queue the copy of the host's input to the device."""
        source = self.engine.input
        target = self._on_device[source.name].memory
        self.device.copy_in(target, self.host_input(prepared), self.stream)

    def upload_from_device(self, address: int, size: int, offset: int = 0) -> None:
        """Queue the copy of `size` bytes of device memory into the input."""
        target = self._on_device[self.engine.input.name].memory + offset
        self.device.copy_within(target, address, size, self.stream)

    def execute(self, prepared: PreparedShape) -> None:
        """Queue the inference, as the captured graph if there is one."""
        if prepared.graph is None and self._may_capture(prepared):
            self._capture(prepared)
        if prepared.graph is not None:
            self.device.launch(prepared.graph, self.stream)
        else:
            self._enqueue(prepared)
        prepared.runs += 1

    def _may_capture(self, prepared: PreparedShape) -> bool:
        if not self._captures or prepared.runs < prepared.capture_after:
            return False
        # TensorRT-RTX compiles kernels in the background, and reports when they are ready.
        ready = getattr(prepared.context, "is_stream_capturable", None)
        return ready is None or bool(ready(self.device.handle_of(self.stream)))

    def _capture(self, prepared: PreparedShape) -> None:
        """Capture one run; if that fails, this shape runs without a graph for some time."""
        self._finish()
        try:
            prepared.graph = self._captured(prepared)
        except DeviceError as error:
            self.no_graphs = f"this engine cannot be captured ({error})"
            prepared.capture_after = _PATIENCE * prepared.runs
        else:
            self.no_graphs = None

    def _captured(self, prepared: PreparedShape) -> Graph:
        """Return one run as a graph; a capture that began ends, whatever fails."""
        self.device.begin_capture(self.stream)
        try:
            self._enqueue(prepared)
        except DeviceError:
            with suppress(DeviceError):  # the first error is the reason
                self.device.destroy_graph(self.device.end_capture(self.stream))
            raise
        return self.device.end_capture(self.stream)

    def _enqueue(self, prepared: PreparedShape) -> None:
        if not prepared.context.execute_async_v3(self.device.handle_of(self.stream)):
            raise DeviceError(
                f"{self.engine.path}: TensorRT refused to run a batch of shape {prepared.shape}"
            )

    def download(self, prepared: PreparedShape, names: Sequence[str]) -> None:
        """Queue the copies of outputs to the host."""
        for name in names:
            source = self._on_device[name].memory
            self.device.copy_out(self.host_output(prepared, name), source, self.stream)

    def download_to_device(self, name: str, address: int, size: int) -> None:
        """Queue the copy of the first `size` bytes of an output to device memory."""
        self.device.copy_within(address, self._on_device[name].memory, size, self.stream)

    def contexts(self) -> list[Any]:
        """Return the execution contexts of all shapes that are kept."""
        return [prepared.context for prepared in self._shapes.values()]

    def wait(self) -> None:
        """Wait for all queued work, spinning or sleeping as the options say."""
        self.device.record(self._done, self.stream)
        self.device.wait(self._done)

    def close(self) -> None:
        """Free everything; an error in one place does not stop the rest."""
        with ExitStack() as stack:
            stack.push(self._resources)
            stack.callback(self._finish)

    def _finish(self) -> None:
        self.device.synchronize(self.stream)

    def _drop_shapes(self) -> None:
        with ExitStack() as stack:
            for prepared in self._shapes.values():
                stack.callback(self._drop, prepared)
            self._shapes = OrderedDict()

    def _drop(self, prepared: PreparedShape) -> None:
        graph, prepared.graph = prepared.graph, None
        if graph is not None:
            self.device.destroy_graph(graph)

    def _tensor(self, name: str) -> EngineTensor:
        return next(tensor for tensor in self._tensors if tensor.name == name)

    def _accepted(self, answer: object, what: str) -> None:
        if not answer:
            raise DeviceError(f"{self.engine.path}: TensorRT did not accept {what}")


def _kept(memory: GrowingMemory[Any], stack: ExitStack) -> GrowingMemory[Any]:
    stack.callback(memory.release)
    return memory


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * ELEMENTS[dtype].nbytes


def _why_no_graphs(device: Device, cuda_graphs: bool) -> str | None:
    if not cuda_graphs:
        return "switched off"
    return None if device.supports_graphs else f"{device.api} has none"
