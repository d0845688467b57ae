"""Use a CUDA device through NVIDIA's cuda-python, in the primary context."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

try:
    from cuda.bindings import driver
    from cuda.bindings import runtime as cudart
except ModuleNotFoundError:  # cuda-python 12.6.0 has them only under the old names
    from cuda import cuda as driver
    from cuda import cudart

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
from gsp_deploy.errors import DeviceError, MissingCapabilityError, reason_of

_PCI_LENGTH = 32
_NO_DEVICE = (
    "cudaErrorInsufficientDriver",
    "cudaErrorNoDevice",
    "cudaErrorStubLibrary",
    "cudaErrorSystemDriverMismatch",
    "cudaErrorCompatNotSupportedOnDevice",
)


class CudaPythonDevice(Device):
    """A device by `cuda.bindings.runtime`, in its primary context, which torch and CuPy share."""

    def __init__(self, index: int = 0) -> None:
        count = device_count()
        if index >= count:
            raise MissingCapabilityError(
                f"cuda:{index} was asked for, but this machine has {counted(count, 'CUDA device')}"
            )
        self.index = index
        self.api = f"cuda-python {_version()}"
        with self.current():
            _call(cudart.cudaFree, 0)  # creates the context now, so that its error is clear

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device current; then the one before, but only if a context exists on it.

        `cudaSetDevice` makes a context, which takes hundreds of megabytes on a device that nobody
        may be using.
        """
        before = _call(cudart.cudaGetDevice)
        if before == self.index:
            yield
            return
        _call(cudart.cudaSetDevice, self.index)
        try:
            yield
        finally:
            if _has_context(before):
                _call(cudart.cudaSetDevice, before)

    def allocate(self, size: int) -> int:
        return int(_call(cudart.cudaMalloc, size, wanted=f"{size:,} bytes on the device"))

    def free(self, pointer: int) -> None:
        _call(cudart.cudaFree, pointer)

    def allocate_host(self, size: int) -> np.ndarray:
        address = int(
            _call(
                cudart.cudaHostAlloc,
                size,
                cudart.cudaHostAllocDefault,
                wanted=f"{size:,} bytes of page-locked host memory",
            )
        )
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_host(self, memory: np.ndarray) -> None:
        _call(cudart.cudaFreeHost, memory.ctypes.data)

    def copy_in(self, target: int, source: np.ndarray, stream: Stream) -> None:
        self._copy(
            target, source.ctypes.data, source.nbytes, stream, _kind("cudaMemcpyHostToDevice")
        )

    def copy_out(self, target: np.ndarray, source: int, stream: Stream) -> None:
        self._copy(
            target.ctypes.data, source, target.nbytes, stream, _kind("cudaMemcpyDeviceToHost")
        )

    def copy_within(self, target: int, source: int, size: int, stream: Stream) -> None:
        self._copy(target, source, size, stream, _kind("cudaMemcpyDeviceToDevice"))

    def _copy(self, target: int, source: int, size: int, stream: Stream, kind: Any) -> None:
        _call(cudart.cudaMemcpyAsync, target, source, size, kind, stream)

    def create_stream(self) -> Stream:
        return _call(cudart.cudaStreamCreateWithFlags, cudart.cudaStreamNonBlocking)

    def destroy_stream(self, stream: Stream) -> None:
        _call(cudart.cudaStreamDestroy, stream)

    def handle_of(self, stream: Stream) -> int:
        return int(stream)

    def synchronize(self, stream: Stream) -> None:
        _call(cudart.cudaStreamSynchronize, stream)

    def order(self, first: int, then: int) -> None:
        event = _call(cudart.cudaEventCreateWithFlags, cudart.cudaEventDisableTiming)
        try:
            _call(cudart.cudaEventRecord, event, cudart.cudaStream_t(first))
            _call(cudart.cudaStreamWaitEvent, cudart.cudaStream_t(then), event, 0)
        finally:
            _call(cudart.cudaEventDestroy, event)

    def create_event(self, *, blocking: bool = False) -> Event:
        flags = cudart.cudaEventBlockingSync if blocking else cudart.cudaEventDefault
        return _call(cudart.cudaEventCreateWithFlags, flags)

    def destroy_event(self, event: Event) -> None:
        _call(cudart.cudaEventDestroy, event)

    def record(self, event: Event, stream: Stream) -> None:
        _call(cudart.cudaEventRecord, event, stream)

    def wait(self, event: Event) -> None:
        _call(cudart.cudaEventSynchronize, event)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        return float(_call(cudart.cudaEventElapsedTime, start, end))

    def spin(self) -> None:
        _call(cudart.cudaSetDeviceFlags, cudart.cudaDeviceScheduleSpin)

    def begin_capture(self, stream: Stream) -> None:
        # Thread-local, because other sessions may allocate in their own threads during the capture.
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call(cudart.cudaStreamBeginCapture, stream, mode)

    def end_capture(self, stream: Stream) -> Graph:
        recorded = _call(cudart.cudaStreamEndCapture, stream)
        try:
            return _call(cudart.cudaGraphInstantiate, recorded, 0)
        finally:
            _call(cudart.cudaGraphDestroy, recorded)

    def launch(self, graph: Graph, stream: Stream) -> None:
        _call(cudart.cudaGraphLaunch, graph, stream)

    def destroy_graph(self, graph: Graph) -> None:
        _call(cudart.cudaGraphExecDestroy, graph)

    def memory(self) -> MemoryInfo:
        free, total = _call(cudart.cudaMemGetInfo)
        return MemoryInfo(int(free), int(total))

    def properties(self) -> DeviceProperties:
        found = _call(cudart.cudaGetDeviceProperties, self.index)
        return DeviceProperties(
            name=_text(found.name),
            compute_capability=f"{found.major}.{found.minor}",
            multiprocessors=int(found.multiProcessorCount),
            l2_bytes=int(found.l2CacheSize),
            integrated=bool(found.integrated),
            pci_bus_id=_text(_call(cudart.cudaDeviceGetPCIBusId, _PCI_LENGTH, self.index)),
            driver=version_words(_call(cudart.cudaDriverGetVersion)),
            runtime=version_words(_call(cudart.cudaRuntimeGetVersion)),
        )

    def close(self) -> None:
        """Do nothing: the primary context belongs to the process."""


def device_count() -> int:
    """Return how many CUDA devices there are.

    Raises:
        MissingCapabilityError: there is no device or no suitable driver, in CUDA's words.
    """
    error, count = _guarded(cudart.cudaGetDeviceCount)
    if error.name in _NO_DEVICE or (error.name == "cudaSuccess" and count == 0):
        name = "cudaErrorNoDevice" if error.name == "cudaSuccess" else error.name
        raise MissingCapabilityError(
            f"no usable CUDA device here ({name}: {_words(error)}); `gsp-deploy doctor` shows "
            "what is missing"
        )
    _check(error, "cudaGetDeviceCount", "")
    return int(count)


def _kind(name: str) -> Any:
    return getattr(cudart.cudaMemcpyKind, name)


def _has_context(index: int) -> bool:
    """Whether this process has a primary context on a device."""
    _, active = _call(driver.cuDevicePrimaryCtxGetState, driver.CUdevice(index))
    return bool(active)


def _call(function: Any, *arguments: Any, wanted: str = "") -> Any:
    """Call CUDA and return what it gives beside its error code: one value, or several."""
    error, *values = _guarded(function, *arguments)
    _check(error, function.__name__, wanted)
    return values[0] if len(values) == 1 else tuple(values)


def _guarded(function: Any, *arguments: Any) -> Any:
    """Call CUDA; cuda-python 12.6 raises where later ones return an error code."""
    try:
        return function(*arguments)
    except RuntimeError as error:  # it finds no driver, or a function is missing in the driver
        raise MissingCapabilityError(
            f"no usable CUDA device here ({function.__name__}: {reason_of(error)}); `gsp-deploy "
            "doctor` shows what is missing"
        ) from error
    except ValueError as error:  # a newer driver's code, which this cuda-python does not know
        raise DeviceError(f"{function.__name__} failed: {reason_of(error)}") from error


def _check(error: Any, function: str, wanted: str) -> None:
    if int(error) != 0:
        asked = f" for {wanted}" if wanted else ""
        raise DeviceError(f"{function}{asked} failed with {error.name}: {_words(error)}")


def _words(error: Any) -> str:
    _, words = _guarded(cudart.cudaGetErrorString, error)
    return _text(words)


def _text(words: bytes | str) -> str:
    if isinstance(words, str):
        return words
    return words.split(b"\0")[0].decode(errors="replace")


def _version() -> str:
    for package in ("cuda-bindings", "cuda-python"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "of an unknown version"
