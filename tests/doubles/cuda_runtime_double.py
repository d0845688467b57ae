"""A double of `cuda.bindings.runtime` whose card is a `HostDevice`: host memory, CUDA's order.

Types, constants and the words of errors are the real module's, which needs no driver for them; the
functions are those that a device calls, with the real ones' names and parameters. As those do,
they return an error code before their values, give out handles instead of objects, and work on
the device that is current for the thread. The card fails them on demand, by name or by number.
"""

# ruff: noqa: N802, N803 - the names are CUDA's
from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from host_device import HostDevice, HostEvent, HostGraph

from gsp_deploy.errors import DeviceError

# What gives back is not made to fail: if that fails, CUDA itself is broken.
GIVES_BACK = (
    "cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaEventDestroy", "cudaGraphDestroy",
    "cudaGraphExecDestroy",
)  # fmt: skip
MAKES_CONTEXT = "cudaFree of nothing"  # the usual way to make the primary context
_NAME_BYTES = 256  # of a device, filled up with zeros
_VERSION = 13000


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of the runtime: an error code comes before what the method returns."""

    @functools.wraps(method)
    def call(self: CudaRuntimeDouble, *arguments: Any) -> tuple[Any, ...]:
        codes = self.cudaError_t
        try:
            found = method(self, *arguments)
        except DeviceError as error:  # the card's, which has the name of the code in it
            named = re.search(r"cudaError\w+", str(error))
            return getattr(codes, named[0] if named else "", codes.cudaErrorUnknown), None
        if found is None:
            return (codes.cudaSuccess,)
        return (codes.cudaSuccess, *(found if isinstance(found, tuple) else (found,)))

    return call


def _on_card(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that works on the thread's current device, which must be the card."""

    @functools.wraps(method)
    def work(self: CudaRuntimeDouble, *arguments: Any) -> Any:
        assert self.current == self.card.index, f"{method.__name__} on another device"
        with self.card.current():
            if method.__name__ not in GIVES_BACK:
                self.card.called(method.__name__)
            return method(self, *arguments)

    return _function(work)


class CudaRuntimeDouble:
    """The module. There are as many devices as the card's index takes; the others do nothing."""

    def __init__(self, card: HostDevice, real: Any) -> None:
        """Put a card behind the functions; `real` is the module with types and constants."""
        self.card, self.real = card, real
        self.device_count = card.index + 1
        self.events: dict[int, tuple[HostEvent, bool]] = {}
        self.graphs: dict[int, HostGraph] = {}
        self.contexts: set[int] = set()  # devices with a primary context
        self._thread = threading.local()
        self._handles = itertools.count(1 << 20)

    @property
    def current(self) -> int:
        """The thread's current device."""
        return getattr(self._thread, "device", 0)

    def __getattr__(self, name: str) -> Any:
        """Return a type or a constant of the real module, whose functions would ask a driver."""
        value = getattr(self.real, name)
        if inspect.isclass(value) or isinstance(value, int):
            return value
        raise AttributeError(f"the double of CUDA's runtime has no function {name}")

    @_function
    def cudaGetDeviceCount(self) -> int:
        if self.device_count == 0:
            raise DeviceError("cudaErrorNoDevice")
        return self.device_count

    @_function
    def cudaGetDevice(self) -> int:
        return self.current

    @_function
    def cudaSetDevice(self, device: int) -> None:
        if not 0 <= device < self.device_count:
            raise DeviceError("cudaErrorInvalidDevice")
        self.contexts.add(device)  # as from CUDA 12 on
        self._thread.device = device

    @_on_card
    def cudaSetDeviceFlags(self, flags: int) -> None:
        assert flags == self.cudaDeviceScheduleSpin
        self.card.spin()

    @_on_card
    def cudaMalloc(self, size: int) -> int:
        return self.card.allocate(size)

    @_on_card
    def cudaFree(self, devPtr: int) -> None:
        if devPtr:
            self.card.free(devPtr)
        else:
            self.card.called(MAKES_CONTEXT)

    @_on_card
    def cudaHostAlloc(self, size: int, flags: int) -> int:
        assert flags == self.cudaHostAllocDefault
        return self.card.allocate_host(size).ctypes.data

    @_on_card
    def cudaFreeHost(self, ptr: int) -> None:
        self.card.free_host(self.card.pinned[ptr])

    @_on_card
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> None:
        kinds, queue = self.cudaMemcpyKind, self._stream(stream)
        if kind == kinds.cudaMemcpyHostToDevice:
            self.card.copy_in(dst, _host_memory(src, count), queue)
        elif kind == kinds.cudaMemcpyDeviceToHost:
            self.card.copy_out(_host_memory(dst, count), src, queue)
        else:
            assert kind == kinds.cudaMemcpyDeviceToDevice
            self.card.copy_within(dst, src, count, queue)

    @_on_card
    def cudaMemGetInfo(self) -> tuple[int, int]:
        memory = self.card.memory()
        return memory.free, memory.total

    @_on_card
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking
        return self.cudaStream_t(self.card.create_stream().handle)

    @_on_card
    def cudaStreamDestroy(self, stream: Any) -> None:
        self.card.destroy_stream(self._stream(stream))

    @_on_card
    def cudaStreamSynchronize(self, stream: Any) -> None:
        self.card.synchronize(self._stream(stream))

    @_on_card
    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        assert flags == 0
        recorded, _ = self.events[int(event)]
        assert recorded.stream is not None
        assert recorded.marker is not None
        self._stream(stream).after(recorded.stream, recorded.marker)

    @_on_card
    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        blocking = bool(flags & self.cudaEventBlockingSync)
        handle = next(self._handles)
        timed = not flags & self.cudaEventDisableTiming
        self.events[handle] = self.card.create_event(blocking=blocking), timed
        return self.cudaEvent_t(handle)

    @_on_card
    def cudaEventDestroy(self, event: Any) -> None:
        self.card.destroy_event(self.events.pop(int(event))[0])

    @_on_card
    def cudaEventRecord(self, event: Any, stream: Any) -> None:
        self.card.record(self.events[int(event)][0], self._stream(stream))

    @_on_card
    def cudaEventSynchronize(self, event: Any) -> None:
        self.card.wait(self.events[int(event)][0])

    @_on_card
    def cudaEventElapsedTime(self, start: Any, end: Any) -> float:
        (first, timed), (last, timed_too) = self.events[int(start)], self.events[int(end)]
        if not (timed and timed_too and first.stream and last.stream):
            raise DeviceError("cudaErrorInvalidResourceHandle")
        return self.card.elapsed_ms(first, last)

    @_on_card
    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.card.begin_capture(self._stream(stream))

    @_function
    def cudaStreamEndCapture(self, stream: Any) -> Any:
        """Capturing ends either way: a run that cannot be captured makes it fail, as CUDA's."""
        with self.card.current():
            recorded = self.card.end_capture(self._stream(stream))
            try:
                self.card.called("cudaStreamEndCapture")
            except DeviceError:
                self.card.destroy_graph(recorded)
                raise DeviceError("cudaErrorStreamCaptureInvalidated") from None
        return self.cudaGraph_t(self._keep(recorded))

    @_on_card
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        assert flags == 0
        ready = HostGraph(self.graphs[int(graph)].work)
        self.card.graphs.add(ready)
        return self.cudaGraphExec_t(self._keep(ready))

    @_on_card
    def cudaGraphDestroy(self, graph: Any) -> None:
        self.card.destroy_graph(self.graphs.pop(int(graph)))

    @_on_card
    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> None:
        self.card.launch(self.graphs[int(graphExec)], self._stream(stream))

    @_on_card
    def cudaGraphExecDestroy(self, graphExec: Any) -> None:
        self.card.destroy_graph(self.graphs.pop(int(graphExec)))

    @_function
    def cudaGetDeviceProperties(self, device: int) -> Any:
        assert device == self.card.index
        told, found = self.card.properties(), self.cudaDeviceProp()
        found.name = told.name.encode().ljust(_NAME_BYTES, b"\0")
        found.major, found.minor = map(int, told.compute_capability.split("."))
        found.multiProcessorCount, found.l2CacheSize = told.multiprocessors, told.l2_bytes
        found.integrated = int(told.integrated)
        return found

    @_function
    def cudaDeviceGetPCIBusId(self, length: int, device: int) -> bytes:
        assert device == self.card.index
        return self.card.properties().pci_bus_id.encode().ljust(length, b"\0")

    @_function
    def cudaDriverGetVersion(self) -> int:
        return _VERSION

    @_function
    def cudaRuntimeGetVersion(self) -> int:
        return _VERSION

    @_function
    def cudaGetErrorString(self, error: Any) -> bytes:
        _, words = self.real.cudaGetErrorString(error)
        return words

    def _stream(self, stream: Any) -> Any:
        return self.card.stream_of(int(stream))

    def _keep(self, graph: HostGraph) -> int:
        handle = next(self._handles)
        self.graphs[handle] = graph
        return handle


class CudaDriverDouble:
    """The few functions of `cuda.bindings.driver` that a device calls."""

    def __init__(self, runtime: CudaRuntimeDouble, real: Any) -> None:
        self.runtime, self.CUdevice = runtime, real.CUdevice

    def cuDevicePrimaryCtxGetState(self, dev: Any) -> tuple[Any, int, int]:
        codes = self.runtime.cudaError_t
        return codes.cudaSuccess, 0, int(int(dev) in self.runtime.contexts)


def _host_memory(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
