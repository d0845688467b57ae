"""The protocol of a CUDA device: the calls that a session needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

# Streams, events and graphs have the types of the library underneath.
Stream = Any
Event = Any
Graph = Any


@dataclass(frozen=True)
class MemoryInfo:
    """Memory of a device in bytes; on a Jetson the host shares it."""

    free: int
    total: int


@dataclass(frozen=True)
class DeviceProperties:
    """The properties of a device.

    Attributes:
        name: as the driver calls it.
        compute_capability: such as `8.7`.
        multiprocessors: how many.
        l2_bytes: size of the second-level cache.
        integrated: host and device share their memory, as on a Jetson.
        pci_bus_id: its address; NVML finds the device by it, since CUDA numbers differently.
        driver, runtime: CUDA versions, such as `12.6`.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    l2_bytes: int
    integrated: bool
    pci_bus_id: str
    driver: str
    runtime: str


def version_words(number: int) -> str:
    """Return CUDA's 12060 as 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"


class Device(ABC):
    """One CUDA device through one library. Every `create` has its `destroy`.

    Every call but `properties` is made inside `current()`, and for one stream by one thread at a
    time. Failures raise `DeviceError` in CUDA's words.

    Attributes:
        api: the library underneath, with its version.
        index: the device's number.
        supports_graphs: whether work can be captured as a CUDA graph.
    """

    api: str
    index: int
    supports_graphs: bool = True

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """Make the device current for this thread while the block runs."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the device, aligned to 256 bytes."""

    @abstractmethod
    def free(self, pointer: int) -> None:
        """Free what `allocate` gave."""

    @abstractmethod
    def allocate_host(self, size: int) -> np.ndarray:
        """Return page-locked host memory, uint8 `(size,)`."""

    @abstractmethod
    def free_host(self, memory: np.ndarray) -> None:
        """Free what `allocate_host` gave."""

    @abstractmethod
    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        """Queue a copy of contiguous host memory to the device."""

    @abstractmethod
    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        """Queue a copy from the device that fills contiguous host memory."""

    @abstractmethod
    def copy_within(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Queue a copy of `size` bytes from device memory to device memory."""

    @abstractmethod
    def create_stream(self) -> Stream:
        """Return a stream that does not wait for the default stream."""

    @abstractmethod
    def destroy_stream(self, stream: Stream) -> None:
        """Destroy what `create_stream` gave."""

    @abstractmethod
    def handle_of(self, stream: Stream) -> int:
        """Return the stream's address, as other libraries take it."""

    @abstractmethod
    def synchronize(self, stream: Stream) -> None:
        """Wait until everything queued is done."""

    @abstractmethod
    def order(self, first: int, then: int) -> None:
        """Let the stream with handle `then` wait for what is queued on `first` by now."""

    @abstractmethod
    def create_event(self, *, blocking: bool = False) -> Event:
        """Return an event that records a time; a blocking one lets the waiting thread sleep."""

    @abstractmethod
    def destroy_event(self, event: Event) -> None:
        """Destroy what `create_event` gave."""

    @abstractmethod
    def record(self, event: Event, stream: Stream) -> None:
        """Queue the event."""

    @abstractmethod
    def wait(self, event: Event) -> None:
        """Wait until the event has happened."""

    @abstractmethod
    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Return the milliseconds between two events that have happened."""

    @abstractmethod
    def spin(self) -> None:
        """Make threads of this process spin while they wait, instead of the driver's choice.

        Raises:
            UsageError: the library cannot change it.
        """

    @abstractmethod
    def begin_capture(self, stream: Stream) -> None:
        """Begin to record the work that this thread queues on the stream, without running it."""

    @abstractmethod
    def end_capture(self, stream: Stream) -> Graph:
        """End recording and return what was recorded, ready to launch."""

    @abstractmethod
    def launch(self, graph: Graph, stream: Stream) -> None:
        """Queue a captured graph."""

    @abstractmethod
    def destroy_graph(self, graph: Graph) -> None:
        """Destroy what `end_capture` gave."""

    @abstractmethod
    def memory(self) -> MemoryInfo:
        """Return how much memory is free now."""

    @abstractmethod
    def properties(self) -> DeviceProperties:
        """Return the properties of the device."""

    @abstractmethod
    def close(self) -> None:
        """Release the device; memory that is still allocated on it stays usable."""
