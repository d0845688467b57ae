"""A double of `pycuda.driver` whose card is a `HostDevice`: host memory, CUDA's order.

Names, parameters and behaviour are those of PyCUDA 2026.1 (`doc/driver.rst`, `wrap_cudadrv.cpp`,
`cuda.hpp`). As there, contexts lie on a stack of each thread; whatever is created belongs to the
context on top; streams and events are destroyed with their last reference, and where that goes in
another thread than the context's, with that context not current, they are left and PyCUDA warns.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from host_device import HostDevice

from gsp_deploy.errors import DeviceError

VERSION_TEXT = "2026.1"
CUDA_VERSION = (13, 0, 0)
NON_BLOCKING = 1
# The driver's words for what the card says, and PyCUDA's class of error for it.
_WORDS = {
    "cudaErrorMemoryAllocation": ("MemoryError", "out of memory"),
    "cudaErrorNotReady": ("RuntimeError", "device not ready"),
}


class Error(Exception):
    """`pycuda.driver.Error`: a routine, `failed`, and the driver's words."""


ERRORS = {"Error": Error} | {
    name: type(name, (Error,), {})
    for name in ("MemoryError", "LogicError", "LaunchError", "RuntimeError")
}


class PycudaDouble:
    """The module, of one card; there are as many devices as its index takes."""

    event_flags = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1)
    device_attribute = SimpleNamespace(
        MULTIPROCESSOR_COUNT="multiprocessors", L2_CACHE_SIZE="l2_bytes", INTEGRATED="integrated"
    )

    def __init__(self, card: HostDevice) -> None:
        self.card = card
        self.device_count = card.index + 1
        self.retained = 0  # primary contexts that nobody let go of
        self.warnings: list[str] = []
        self.Device, self.Context = Devices(self), Contexts(self)
        self.Stream = functools.partial(Stream, self)
        self.Event = functools.partial(Event, self)
        vars(self).update(ERRORS)

    def init(self, flags: int = 0) -> None:
        if self.device_count == 0:
            raise ERRORS["RuntimeError"]("cuInit failed: no CUDA-capable device is detected")

    def get_version(self) -> tuple[int, int, int]:
        return CUDA_VERSION

    def get_driver_version(self) -> int:
        return 13000

    @contextmanager
    def calling(self, routine: str) -> Iterator[HostDevice]:
        """Enter a routine of the driver; what fails in it is told in PyCUDA's words."""
        with self.on_card():
            try:
                self.card.called(routine)
                yield self.card
            except DeviceError as error:  # the card's, which has CUDA's name of the error in it
                named = re.search(r"cudaError\w+", str(error))
                kind, words = _WORDS.get(named[0] if named else "", ("LogicError", "unknown"))
                raise ERRORS[kind](f"{routine} failed: {words}") from None

    @contextmanager
    def on_card(self) -> Iterator[None]:
        """Work in the current context, which must be one of the card."""
        context = self.Context.get_current()
        if context is None:
            raise ERRORS["LogicError"](
                "explicit_context_dependent failed: invalid device context - no currently active "
                "context?"
            )
        assert context.device.index == self.card.index, "in a context of another device"
        with self.card.current():
            yield

    def clean_up(self, context: Context, what: str, action: Callable[[], None]) -> None:
        """Destroy something in its context, if that is current or belongs to this thread."""
        is_current = self.Context.get_current() is context
        if not is_current and threading.get_ident() != context.thread:
            self.warnings.append(f"{what} in out-of-thread context could not be cleaned up")
            return
        if not is_current:
            context.push()
        with self.card.current():
            action()
        if not is_current:
            self.Context.pop()

    def mem_alloc(self, bytes: int) -> DeviceAllocation:
        with self.calling("cuMemAlloc") as card:
            return DeviceAllocation(self, card.allocate(_plain(bytes)))

    def mem_get_info(self) -> tuple[int, int]:
        with self.calling("cuMemGetInfo") as card:
            memory = card.memory()
        return memory.free, memory.total

    def pagelocked_empty(
        self, shape: tuple[int, ...], dtype: Any, order: str = "C", mem_flags: int = 0
    ) -> np.ndarray:
        (size,) = shape
        assert np.dtype(dtype) == np.uint8
        with self.calling("cuMemHostAlloc") as card:
            return np.asarray(PagelockedHostAllocation(self, card.allocate_host(_plain(size))))

    def memcpy_htod_async(self, dest: int, src: Any, stream: Stream | None = None) -> None:
        with self.calling("cuMemcpyHtoDAsync") as card:
            card.copy_in(_plain(dest), _buffer(src), _queue(stream))

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Stream | None = None) -> None:
        with self.calling("cuMemcpyDtoHAsync") as card:
            target = _buffer(dest)
            assert target.flags.writeable
            card.copy_out(target, _plain(src), _queue(stream))

    def memcpy_dtod_async(
        self, dest: int, src: int, size: int, stream: Stream | None = None
    ) -> None:
        with self.calling("cuMemcpyDtoDAsync") as card:
            card.copy_within(_plain(dest), _plain(src), _plain(size), _queue(stream))


class Devices:
    """`driver.Device`: a constructor, and the count of them."""

    def __init__(self, driver: PycudaDouble) -> None:
        self.driver = driver

    def __call__(self, number: int) -> DeviceDouble:
        return DeviceDouble(self.driver, number)

    def count(self) -> int:
        return self.driver.device_count


class DeviceDouble:
    """A `driver.Device`."""

    def __init__(self, driver: PycudaDouble, index: int) -> None:
        assert index < driver.device_count
        self.driver, self.index = driver, index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceDouble) and other.index == self.index

    def __hash__(self) -> int:
        return self.index

    def make_context(self, flags: int = 0) -> Context:
        context = Context(self.driver, self)
        context.push()
        return context

    def retain_primary_context(self) -> Context:
        return PrimaryContext(self.driver, self)

    def name(self) -> str:
        return self.driver.card.properties().name

    def pci_bus_id(self) -> str:
        return self.driver.card.properties().pci_bus_id

    def compute_capability(self) -> tuple[int, int]:
        major, minor = self.driver.card.properties().compute_capability.split(".")
        return int(major), int(minor)

    def get_attribute(self, attribute: str) -> int:
        return int(getattr(self.driver.card.properties(), attribute))


class Contexts:
    """`driver.Context`: its static methods, on the stack of this thread."""

    def __init__(self, driver: PycudaDouble) -> None:
        self.driver = driver
        self._thread = threading.local()

    @property
    def stack(self) -> list[Context]:
        if not hasattr(self._thread, "stack"):
            self._thread.stack = []
        return self._thread.stack

    def get_current(self) -> Context | None:
        return self.stack[-1] if self.stack else None

    def get_device(self) -> DeviceDouble:
        return self.stack[-1].device

    def pop(self) -> None:
        if not self.stack:
            raise ERRORS["LogicError"](
                "context::pop failed: invalid device context - cannot pop non-current context"
            )
        self.stack.pop()

    def synchronize(self) -> None:
        with self.driver.calling("cuCtxSynchronize") as card:
            for stream in card.streams.values():
                card.synchronize(stream)


class Context:
    """A `driver.Context`."""

    def __init__(self, driver: PycudaDouble, device: DeviceDouble) -> None:
        self.driver, self.device = driver, device
        self.thread = threading.get_ident()

    def push(self) -> None:
        self.driver.Context.stack.append(self)


class PrimaryContext(Context):
    """The device's primary context, retained until the last reference to this goes."""

    def __init__(self, driver: PycudaDouble, device: DeviceDouble) -> None:
        super().__init__(driver, device)
        driver.retained += 1

    def __del__(self) -> None:
        self.driver.retained -= 1


class DeviceAllocation:
    """What `mem_alloc` returns."""

    def __init__(self, driver: PycudaDouble, address: int) -> None:
        self.driver, self.address, self.valid = driver, address, True
        self.context = driver.Context.get_current()

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        if not self.valid:
            raise ERRORS["LogicError"]("device_allocation::free failed: invalid resource handle")
        self.valid = False
        self.driver.clean_up(
            self.context, "device_allocation", lambda: self.driver.card.free(self.address)
        )

    def __del__(self) -> None:
        if self.valid:
            self.free()


class PagelockedHostAllocation:
    """What lies under the arrays of `pagelocked_empty`, as their `base`."""

    def __init__(self, driver: PycudaDouble, memory: np.ndarray) -> None:
        self.driver, self.memory, self.valid = driver, memory, True
        self.context = driver.Context.get_current()
        self.__array_interface__ = memory.__array_interface__

    def free(self) -> None:
        if not self.valid:
            raise ERRORS["LogicError"](
                "pagelocked_host_allocation::free failed: invalid resource handle"
            )
        self.valid = False
        self.driver.clean_up(
            self.context,
            "pagelocked_host_allocation",
            lambda: self.driver.card.free_host(self.memory),
        )

    def __del__(self) -> None:
        if self.valid:
            self.free()


class Stream:
    """A `driver.Stream`."""

    def __init__(self, driver: PycudaDouble, flags: int = 0) -> None:
        assert flags == NON_BLOCKING
        with driver.calling("cuStreamCreate") as card:
            self.queue = card.create_stream()
        self.driver, self.context = driver, driver.Context.get_current()

    @property
    def handle(self) -> int:
        return self.queue.handle

    def synchronize(self) -> None:
        with self.driver.calling("cuStreamSynchronize") as card:
            card.synchronize(self.queue)

    def __del__(self) -> None:
        if hasattr(self, "context"):
            self.driver.clean_up(
                self.context, "stream", lambda: self.driver.card.destroy_stream(self.queue)
            )


class Event:
    """A `driver.Event`."""

    def __init__(self, driver: PycudaDouble, flags: int = 0) -> None:
        with driver.calling("cuEventCreate") as card:
            self.event = card.create_event(blocking=bool(flags))
        self.driver, self.context = driver, driver.Context.get_current()

    def record(self, stream: Stream | None = None) -> Event:
        with self.driver.calling("cuEventRecord") as card:
            card.record(self.event, _queue(stream))
        return self

    def synchronize(self) -> Event:
        with self.driver.calling("cuEventSynchronize") as card:
            card.wait(self.event)
        return self

    def time_till(self, event: Event) -> float:
        with self.driver.calling("cuEventElapsedTime") as card:
            return card.elapsed_ms(self.event, event.event)

    def __del__(self) -> None:
        if hasattr(self, "context"):
            self.driver.clean_up(
                self.context, "event", lambda: self.driver.card.destroy_event(self.event)
            )


def _plain(number: int) -> int:
    """Return a number that Boost.Python takes for one: Python's own, and none of numpy's."""
    if type(number) is not int:
        raise TypeError(f"{type(number).__name__} did not match C++ signature")
    return number


def _buffer(array: Any) -> np.ndarray:
    """Return what has the buffer protocol and lies contiguously, as its bytes."""
    return np.frombuffer(memoryview(array).cast("B"), np.uint8)


def _queue(stream: Stream | None) -> Any:
    assert isinstance(stream, Stream), "on the default stream, for which others wait"
    return stream.queue


def install_pycuda(monkeypatch: pytest.MonkeyPatch, card: HostDevice) -> PycudaDouble:
    """Put a card where `import pycuda.driver` finds it, for a device module imported anew."""
    driver = PycudaDouble(card)
    package: Any = ModuleType("pycuda")
    package.VERSION_TEXT, package.driver, package.__path__ = VERSION_TEXT, driver, []
    package.__spec__ = ModuleSpec("pycuda", None, is_package=True)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)  # type: ignore[arg-type]
    ours = "gsp_deploy.device.pycuda"
    monkeypatch.setitem(sys.modules, ours, ModuleType(ours))  # gone again when the test ends
    del sys.modules[ours]
    importlib.import_module(ours)
    return driver
