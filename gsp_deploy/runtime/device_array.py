"""Exchange arrays on the GPU with torch, CuPy, PyCUDA and others, without a copy.

An input is read through DLPack or `__cuda_array_interface__`; a result offers both.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsp_deploy.base.elements import ELEMENTS, END_ELEMENTS
from gsp_deploy.base.encoding import decode, storage_of
from gsp_deploy.device import Device
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.dlpack import CUDA, CUDA_MANAGED, make_capsule, read_capsule

# DLPack's numbers: the consumer works on CUDA's legacy default stream unless it says otherwise,
# and orders its work itself if it says -1.
_LEGACY_STREAM, _NO_ORDER = 1, -1

# `__cuda_array_interface__` has no bfloat16.
_BY_TYPE_STRING = {r.array_interface: r.name for r in END_ELEMENTS if r.in_numpy}


@dataclass(frozen=True)
class DeviceView:
    """Device memory that another library owns.

    Attributes:
        address: of the first element.
        shape: sizes; the elements are dense, in C order.
        dtype: `float32`, `float16`, `bfloat16` or `uint8`.
        stream: handle of the stream that may still be writing it; None if it is ready, or
            ordered already.
        keep: the object that keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    stream: int | None
    keep: Any


def view_of(array: Any, device: Device, stream: int) -> DeviceView:
    """Return a view of a device array for work on the stream with this handle.

    Raises:
        UsageError: it is not an array on this device, not dense, or of another element type.
    """
    if hasattr(array, "__dlpack_device__"):
        kind, index = (int(part) for part in array.__dlpack_device__())
        if kind not in (CUDA, CUDA_MANAGED):
            raise UsageError(
                "embed_device takes an array on the GPU, this one is in host memory; give it to "
                "embed instead"
            )
        if index != device.index:
            raise UsageError(f"the array is on cuda:{index}, the session on cuda:{device.index}")
        capsule = array.__dlpack__(stream=stream)
        found = read_capsule(capsule)
        _check_dense(found.shape, found.strides)
        return DeviceView(found.address, found.shape, found.dtype, None, (array, capsule))
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        raise UsageError(
            "embed_device takes an array with __cuda_array_interface__ or __dlpack__, such as of "
            f"torch, CuPy or PyCUDA, got {type(array).__name__}"
        )
    return _by_interface(array, interface)


def _by_interface(array: Any, interface: Mapping[str, Any]) -> DeviceView:
    shape = tuple(int(size) for size in interface["shape"])
    kind = interface["typestr"]
    if kind not in _BY_TYPE_STRING:
        raise UsageError(f"expected elements of {', '.join(_BY_TYPE_STRING.values())}, got {kind}")
    strides, size = interface.get("strides"), np.dtype(kind).itemsize
    _check_dense(shape, None if strides is None else tuple(step // size for step in strides))
    address = int(interface["data"][0])
    return DeviceView(address, shape, _BY_TYPE_STRING[kind], interface.get("stream"), array)


def _check_dense(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> None:
    """Refuse gaps and other orders; a step over an axis of one element does not matter."""
    if strides is None or 0 in shape:
        return
    expected = 1
    for size, step in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and step != expected:
            raise UsageError(
                f"expected a dense array in C order, got steps {strides} for shape {shape}; make "
                "it contiguous first"
            )
        expected *= size


class DeviceArray:
    """A result on the device, in memory that is freed with its last user.

    torch takes it by `torch.from_dlpack(array)`, CuPy by `cupy.from_dlpack` or `cupy.asarray`.

    Attributes:
        shape: sizes, in C order.
        dtype: the element type in words.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str, item_bytes: int) -> None:
        self.shape, self.dtype = shape, dtype
        self.nbytes = math.prod(shape) * item_bytes
        self._device = device
        self._stream: int | None = None
        with device.current():
            self.address = device.allocate(max(self.nbytes, 1))
        self._release = weakref.finalize(self, _free, device, self.address)

    def written_on(self, stream: int) -> None:
        """Record the stream that writes the array: readers on other streams wait for it.

        CUDA's default stream is 0, which the protocols of arrays write as 1.
        """
        self._stream = stream or _LEGACY_STREAM

    def free(self) -> None:
        """Free the memory now. Freeing twice does nothing."""
        self._release()

    def numpy(self) -> np.ndarray:
        """Return a copy in host memory, float32 as everywhere."""
        host = np.empty(self.shape, storage_of(self.dtype))
        with self._device.current():
            stream = self._device.create_stream()
            try:
                if self._stream is not None:
                    self._device.order(self._stream, self._device.handle_of(stream))
                self._device.copy_out(host, self.address, stream)
                self._device.synchronize(stream)
            finally:
                self._device.destroy_stream(stream)
        return decode(host, self.dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16; use DLPack")
        return {
            "shape": self.shape,
            "typestr": ELEMENTS[self.dtype].array_interface,
            "data": (self.address, False),
            "strides": None,
            "stream": self._stream,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._device.index

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy:
            raise BufferError("a DeviceArray gives its own memory, not a copy")
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"the array is on cuda:{self._device.index}, not on {dl_device}")
        reader = _LEGACY_STREAM if stream is None else stream
        if self._stream is not None and reader not in (_NO_ORDER, self._stream):
            with self._device.current():
                self._device.order(self._stream, int(reader))
        return make_capsule(self, self.address, self.shape, self.dtype, self.__dlpack_device__())


def _free(device: Device, address: int) -> None:
    with device.current():
        device.free(address)
