"""Read and make DLPack capsules with ctypes, in the unversioned layout that all libraries read."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from gsp_deploy.base.elements import ELEMENTS, END_ELEMENTS
from gsp_deploy.errors import UsageError

CUDA, CUDA_MANAGED = 2, 13
_NAME = b"dltensor"
_BY_CODE = {row.dlpack: row.name for row in END_ELEMENTS}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


# Own prototypes, because those of `ctypes.pythonapi` belong to the whole process.
_API = ctypes.pythonapi
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _API)
)
_new_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", _API))
# The destructor runs while the capsule is dying: by its address, without a new reference.
_dying_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _API)
)
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _API)
)

# Tensors that a consumer still uses, by the address of their description.
_given: dict[int, tuple[Any, ...]] = {}


@dataclass(frozen=True)
class Described:
    """The contents of a capsule; steps count elements, and are None if it is dense."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str


def read_capsule(capsule: Any) -> Described:
    """Read a capsule without consuming it: it keeps the memory, and frees it when it is deleted.

    Raises:
        UsageError: its elements are of a type that no model here takes.
    """
    managed = ctypes.cast(_capsule_pointer(capsule, _NAME), ctypes.POINTER(_ManagedTensor))
    tensor = managed.contents.tensor
    key = (tensor.dtype.code, tensor.dtype.bits)
    if key not in _BY_CODE or tensor.dtype.lanes != 1:
        raise UsageError(
            f"expected elements of {', '.join(_BY_CODE.values())}, got DLPack's type {key}"
        )
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    return Described((tensor.data or 0) + tensor.byte_offset, shape, strides, _BY_CODE[key])


def make_capsule(
    owner: Any, address: int, shape: tuple[int, ...], dtype: str, device: tuple[int, int]
) -> Any:
    """Return a capsule over dense memory on a device (DLPack's kind, index).

    It keeps `owner` alive until its consumer frees it, or until it is deleted unconsumed.
    """
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    managed = _ManagedTensor()
    managed.tensor = _Tensor(
        data=address,
        device=_Device(*device),
        ndim=len(shape),
        dtype=_DataType(*ELEMENTS[dtype].dlpack, 1),
        shape=ctypes.cast(sizes, ctypes.POINTER(ctypes.c_int64)),
        strides=None,
        byte_offset=0,
    )
    managed.deleter = _forget
    key = ctypes.addressof(managed)
    _given[key] = (owner, sizes, managed)
    return _new_capsule(key, _NAME, ctypes.cast(_destroy, ctypes.c_void_p))


@_Deleter
def _forget(managed: int) -> None:
    _given.pop(managed, None)


@_Destructor
def _destroy(capsule: int) -> None:
    """Free the memory of an unconsumed capsule; a consumer renames it and frees it itself."""
    if _dying_is_valid(capsule, _NAME):
        _given.pop(_dying_pointer(capsule, _NAME), None)
