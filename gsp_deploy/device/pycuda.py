"""Use a CUDA device through PyCUDA, in the caller's context if there is one.

PyCUDA has no CUDA graphs and cannot wait on a stream of another library. So a session runs without
graphs here, and waits on the host for the work of other libraries. PyCUDA destroys an object with
its last reference, and only while the context is current or in the thread that owns it; so the last
references are kept here, and dropped in `current()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda
import pycuda.driver as driver

from gsp_deploy.base.words import counted
from gsp_deploy.device.protocol import (
    Device,
    DeviceProperties,
    Event,
    Graph,
    MemoryInfo,
    Stream,
    version_words,
)
from gsp_deploy.errors import DeviceError, MissingCapabilityError, UsageError, reason_of

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name
_NO_GRAPHS = "PyCUDA has no CUDA graphs; use cuda-python for them"


@dataclass(eq=False)
class _Kept:
    """The only reference to a stream or an event of PyCUDA."""

    it: Any

    def let_go(self) -> None:
        self.it = None


class PycudaDevice(Device):
    """A device by `pycuda.driver`: the caller's current context, or else the primary one."""

    supports_graphs = False

    def __init__(self, index: int = 0) -> None:
        self._initialise(index)
        self.index = index
        self.api = f"pycuda {pycuda.VERSION_TEXT}"
        self._device = driver.Device(index)
        self._allocations: dict[int, Any] = {}
        with _as_device_errors():
            mine = driver.Context.get_current()
            if mine is not None and driver.Context.get_device() != self._device:
                raise DeviceError(
                    f"the current PyCUDA context is not of cuda:{index}; pop it, or ask for the "
                    "device that it belongs to"
                )
            self._context = mine or self._device.retain_primary_context()

    @staticmethod
    def _initialise(index: int) -> None:
        try:
            driver.init()
            count = driver.Device.count()
        except driver.Error as error:
            raise MissingCapabilityError(
                f"no usable CUDA device here ({reason_of(error)}); `gsp-deploy doctor` shows what "
                "is missing"
            ) from error
        if index >= count:
            raise MissingCapabilityError(
                f"cuda:{index} was asked for, but PyCUDA sees {counted(count, 'CUDA device')}"
            )

    @contextmanager
    def current(self) -> Iterator[None]:
        with _as_device_errors():
            self._context.push()
        try:
            yield
        finally:
            with _as_device_errors():
                driver.Context.pop()

    def allocate(self, size: int) -> int:
        with _as_device_errors(f"{size:,} bytes on the device"):
            allocation = driver.mem_alloc(size)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer: int) -> None:
        with _as_device_errors():
            self._allocations.pop(pointer).free()

    def allocate_host(self, size: int) -> np.ndarray:
        with _as_device_errors(f"{size:,} bytes of page-locked host memory"):
            memory: np.ndarray = driver.pagelocked_empty((size,), np.uint8)
        return memory

    def free_host(self, memory: np.ndarray) -> None:
        with _as_device_errors():
            memory.base.free()  # type: ignore[union-attr]

    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        with _as_device_errors():
            driver.memcpy_htod_async(target, source, stream.it)

    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        with _as_device_errors():
            driver.memcpy_dtoh_async(target, source, stream.it)

    def copy_within(self, target: int, source: int, size: int, stream: Stream) -> None:
        with _as_device_errors():
            driver.memcpy_dtod_async(target, source, size, stream.it)

    def create_stream(self) -> Stream:
        with _as_device_errors():
            return _Kept(driver.Stream(_NON_BLOCKING))

    def destroy_stream(self, stream: Stream) -> None:
        try:
            self.synchronize(stream)
        finally:
            stream.let_go()

    def handle_of(self, stream: Stream) -> int:
        return int(stream.it.handle)

    def synchronize(self, stream: Stream) -> None:
        with _as_device_errors():
            stream.it.synchronize()

    def order(self, first: int, then: int) -> None:
        with _as_device_errors():
            driver.Context.synchronize()

    def create_event(self, *, blocking: bool = False) -> Event:
        flags = driver.event_flags.BLOCKING_SYNC if blocking else driver.event_flags.DEFAULT
        with _as_device_errors():
            return _Kept(driver.Event(flags))

    def destroy_event(self, event: Event) -> None:
        event.let_go()

    def record(self, event: Event, stream: Stream) -> None:
        with _as_device_errors():
            event.it.record(stream.it)

    def wait(self, event: Event) -> None:
        with _as_device_errors():
            event.it.synchronize()

    def elapsed_ms(self, start: Event, end: Event) -> float:
        with _as_device_errors():
            return float(start.it.time_till(end.it))

    def spin(self) -> None:
        raise UsageError(
            "a PyCUDA context keeps the way of waiting that it was made with; pass wait block or "
            "auto, or use cuda-python"
        )

    def begin_capture(self, stream: Stream) -> None:
        raise DeviceError(_NO_GRAPHS)

    def end_capture(self, stream: Stream) -> Graph:
        raise DeviceError(_NO_GRAPHS)

    def launch(self, graph: Graph, stream: Stream) -> None:
        raise DeviceError(_NO_GRAPHS)

    def destroy_graph(self, graph: Graph) -> None:
        raise DeviceError(_NO_GRAPHS)

    def memory(self) -> MemoryInfo:
        with _as_device_errors():
            free, total = driver.mem_get_info()
        return MemoryInfo(int(free), int(total))

    def properties(self) -> DeviceProperties:
        attribute = driver.device_attribute
        with _as_device_errors():
            major, minor = self._device.compute_capability()
            return DeviceProperties(
                name=self._device.name(),
                compute_capability=f"{major}.{minor}",
                multiprocessors=int(self._device.get_attribute(attribute.MULTIPROCESSOR_COUNT)),
                l2_bytes=int(self._device.get_attribute(attribute.L2_CACHE_SIZE)),
                integrated=bool(self._device.get_attribute(attribute.INTEGRATED)),
                pci_bus_id=self._device.pci_bus_id(),
                driver=version_words(driver.get_driver_version()),
                runtime=".".join(str(part) for part in driver.get_version()[:2]),
            )

    def close(self) -> None:
        """Do nothing: the context is freed with its last user, which may be a result."""


@contextmanager
def _as_device_errors(wanted: str = "") -> Iterator[None]:
    """Raise an error of PyCUDA, which reads `routine failed: reason`, as `DeviceError`."""
    try:
        yield
    except driver.Error as error:
        routine, failed, reason = reason_of(error).partition(" failed: ")
        asked = f" for {wanted}" if wanted else ""
        raise DeviceError(f"{routine}{asked}{failed}{reason}") from error
