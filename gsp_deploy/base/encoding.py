"""Convert between numpy's float32 and a graph's element types: float16, bfloat16 and pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from gsp_deploy.base.elements import ELEMENTS
from gsp_deploy.errors import UsageError

# Just below half of the last bit that bfloat16 keeps; with the kept bit added it rounds ties to
# even.
_BFLOAT16_TIE = np.uint32(0x7FFF)


def storage_of(dtype: str) -> np.dtype[Any]:
    """Return the numpy type that stores an element type; bfloat16's bits are stored as uint16.

    >>> storage_of("bfloat16")
    dtype('uint16')
    """
    return np.dtype(ELEMENTS[dtype].storage)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return prepared inputs in an element type's storage.

    Raises:
        UsageError: a value is too large for float16.
    """
    if dtype == "float16":
        return as_float16(values)
    if dtype == "bfloat16":
        return _as_bfloat16(values)
    return values


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored elements as a new float32 array.

    >>> decode(encode(np.float32([1.0, 2.01]), "bfloat16"), "bfloat16")
    array([1.      , 2.015625], dtype=float32)
    """
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def as_float16(values: np.ndarray) -> np.ndarray:
    """Return the values in float16, or raise `UsageError` if one overflows."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float16)
    if not np.isfinite(narrow).all():
        raise UsageError(
            f"the input reaches {np.abs(values).max():.3g}, too large for the model's float16 "
            "input; export it with --io-precision fp32"
        )
    return narrow


def _as_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round finite float32 to the nearest bfloat16, ties to even, and return its bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + _BFLOAT16_TIE + odd) >> 16).astype(np.uint16)
