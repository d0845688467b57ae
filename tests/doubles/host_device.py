"""A double of a CUDA device: the device protocol in host memory.

It computes nothing. It keeps CUDA's order of things: what is queued on a stream happens when
somebody waits for it and not before, so that a missing wait or a buffer that is reused too early
gives wrong results here too. It counts what is created and not destroyed, refuses memory that
was freed, and fails on demand at the n-th call.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gsp_deploy.device import Device, DeviceProperties, MemoryInfo
from gsp_deploy.errors import DeviceError

ALIGNMENT = 256
Work = Callable[[], None]


@dataclass(eq=False)
class HostStream:
    handle: int
    queue: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None

    def add(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def after(self, other: HostStream, marker: Work) -> None:
        """Go on only when another stream has come to a marker."""
        self.add(lambda: other.run(marker) if marker in other.queue else None)

    def run(self, until: object = None) -> None:
        """Do what is queued, up to a marker if one is given and still in the queue."""
        while self.queue:
            work = self.queue.pop(0)
            work()
            if work is until:
                return


@dataclass(eq=False)
class HostEvent:
    blocking: bool
    stream: HostStream | None = None
    marker: Work | None = None
    time: float | None = None


@dataclass(eq=False)
class HostGraph:
    work: list[Work]


class HostDevice(Device):
    """The double. Its time passes by `tick_ms` with each piece of work that is done."""

    api = "host double"

    def __init__(self, index: int = 0, *, graphs: bool = True, memory: int = 1 << 40) -> None:
        self.index, self.supports_graphs = index, graphs
        self.total = memory
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.fail_on: str | None = None
        self.log: list[str] = []
        self.now_ms, self.tick_ms = 0.0, 1.0
        self.on_device: dict[int, tuple[np.ndarray, int]] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.streams: dict[int, HostStream] = {}
        self.default = HostStream(1)
        self.events: set[HostEvent] = set()
        self.graphs: set[HostGraph] = set()
        self.depth, self.lock = 0, threading.RLock()  # one piece of work at a time
        self.spinning = self.closed = False

    def called(self, name: str) -> None:
        """Write a call down, and fail if it is the one that is to.

        Raises:
            DeviceError: on demand.
        """
        assert self.depth > 0, f"{name} outside of current()"
        self.calls.append(name)
        failing = self.fail_on == name or self.fail_at == len(self.calls) - 1
        if failing and name not in (*NEVER_FAIL, *GIVES_BACK):
            raise DeviceError(f"{name} failed with cudaErrorInjected: on demand")

    def alive(self) -> dict[str, int]:
        """Return how many of each kind were created and not destroyed."""
        kinds = ("on_device", "pinned", "streams", "events", "graphs")
        return {kind: len(getattr(self, kind)) for kind in kinds if getattr(self, kind)}

    @contextmanager
    def current(self) -> Iterator[None]:
        with self.lock:
            self.depth += 1
        try:
            yield
        finally:
            with self.lock:
                self.depth -= 1

    def allocate(self, size: int) -> int:
        if sum(size for _, size in self.on_device.values()) + size > self.total:
            raise DeviceError(f"allocate for {size:,} bytes failed with cudaErrorMemoryAllocation")
        memory = np.full(size + ALIGNMENT, 0xAB, np.uint8)  # noise, as on a device
        address = -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.on_device[address] = memory, size
        return address

    def free(self, pointer: int) -> None:
        for stream in self.streams.values():  # as cudaFree does: it waits for the whole device
            stream.run()
        del self.on_device[pointer]

    def allocate_host(self, size: int) -> np.ndarray:
        if size > self.total:
            raise DeviceError(
                f"allocate_host for {size:,} bytes failed with cudaErrorMemoryAllocation"
            )
        memory = np.full(size, 0xCD, np.uint8)
        self.pinned[memory.ctypes.data] = memory
        return memory

    def free_host(self, memory: np.ndarray) -> None:
        del self.pinned[memory.ctypes.data]

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """Return device memory, which must be allocated."""
        for memory, length in self.on_device.values():
            start = -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
            if start <= address and address + size <= start + length:
                offset = address - memory.ctypes.data
                return memory[offset : offset + size]
        raise AssertionError(f"cudaErrorIllegalAddress: {size} bytes at {address:#x}")

    def copy_in(self, target: int, source: np.ndarray, stream: HostStream) -> None:
        assert source.flags.c_contiguous
        raw = source.reshape(-1).view(np.uint8)
        if not self._is_pinned(source):
            raw = raw.copy()  # CUDA stages pageable memory before it returns

        def work() -> None:
            self._do("copy in")
            self.bytes_at(target, raw.size)[:] = raw

        stream.add(work)

    def copy_out(self, target: np.ndarray, source: int, stream: HostStream) -> None:
        assert target.flags.c_contiguous
        raw = target.reshape(-1).view(np.uint8)

        def work() -> None:
            self._do("copy out")
            raw[:] = self.bytes_at(source, raw.size)

        stream.add(work)

    def copy_within(self, target: int, source: int, size: int, stream: HostStream) -> None:
        def work() -> None:
            self._do("copy within")
            self.bytes_at(target, size)[:] = self.bytes_at(source, size).copy()

        stream.add(work)

    def _is_pinned(self, array: np.ndarray) -> bool:
        address = array.ctypes.data
        return any(start <= address < start + memory.size for start, memory in self.pinned.items())

    def _do(self, what: str) -> None:
        self.log.append(what)
        self.now_ms += self.tick_ms

    def create_stream(self) -> HostStream:
        handle = 1000 + len(self.calls)
        self.streams[handle] = HostStream(handle)
        return self.streams[handle]

    def destroy_stream(self, stream: HostStream) -> None:
        stream.run()  # CUDA finishes what is queued
        del self.streams[stream.handle]

    def handle_of(self, stream: HostStream) -> int:
        return stream.handle

    def stream_of(self, handle: int) -> HostStream:
        """Return the stream with a handle, which must be alive; 1 is CUDA's default stream."""
        return self.default if handle == 1 else self.streams[handle]

    def synchronize(self, stream: HostStream) -> None:
        assert stream.captured is None, "cudaErrorStreamCaptureUnsupported"
        stream.run()

    def order(self, first: int, then: int) -> None:
        before = self.stream_of(first)
        self.stream_of(then).after(before, self._mark(before))

    def _mark(self, stream: HostStream) -> Work:
        def marker() -> None:
            pass

        stream.add(marker)
        return marker

    def create_event(self, *, blocking: bool = False) -> HostEvent:
        event = HostEvent(blocking)
        self.events.add(event)
        return event

    def destroy_event(self, event: HostEvent) -> None:
        self.events.remove(event)

    def record(self, event: HostEvent, stream: HostStream) -> None:
        def happen() -> None:
            event.time = self.now_ms

        event.stream, event.marker, event.time = stream, happen, None
        stream.add(happen)

    def wait(self, event: HostEvent) -> None:
        assert event.stream is not None
        if event.marker in event.stream.queue:
            event.stream.run(event.marker)

    def elapsed_ms(self, start: HostEvent, end: HostEvent) -> float:
        if start.time is None or end.time is None:
            raise DeviceError("cudaEventElapsedTime failed with cudaErrorNotReady")
        return end.time - start.time

    def spin(self) -> None:
        self.spinning = True

    def begin_capture(self, stream: HostStream) -> None:
        assert stream.captured is None
        stream.captured = []

    def end_capture(self, stream: HostStream) -> HostGraph:
        assert stream.captured is not None
        graph, stream.captured = HostGraph(stream.captured), None
        self.graphs.add(graph)
        return graph

    def launch(self, graph: HostGraph, stream: HostStream) -> None:
        assert graph in self.graphs, "a graph that was destroyed"
        self.log.append("launch")
        for work in graph.work:
            stream.add(work)

    def destroy_graph(self, graph: HostGraph) -> None:
        self.graphs.remove(graph)

    def memory(self) -> MemoryInfo:
        used = sum(size for _, size in self.on_device.values())
        return MemoryInfo(self.total - used, self.total)

    def properties(self) -> DeviceProperties:
        return DeviceProperties("host double", "8.6", 1, 4 << 20, False, "0", "13.0", "13.0")

    def close(self) -> None:
        self.closed = True


# What gives back is not made to fail: if that fails, CUDA itself is broken.
NEVER_FAIL = ("free", "free_host", "end_capture", "handle_of")
GIVES_BACK = ("destroy_stream", "destroy_event", "destroy_graph")


def _watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: HostDevice, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            self.called(name)
            return method(self, *args, **kwargs)

    return call


for _name, _method in inspect.getmembers(Device, inspect.isfunction):
    if _name not in ("current", "close", "properties") and not _name.startswith("_"):
        setattr(HostDevice, _name, _watched(_name, getattr(HostDevice, _name)))
