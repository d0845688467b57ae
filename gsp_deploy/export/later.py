"""Arrays whose numbers exist only when the graph is written.

PyTorch's exporter translates an operator before it gives the graph the weights. The shapes are
known by then, so the writers can lay out every constant; each is computed on writing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True)
class Later:
    """An array of a known shape and type that `read` returns when it exists."""

    read: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]


Numbers = np.ndarray | Later


def computed(function: Callable[[Any], np.ndarray], numbers: Numbers) -> Numbers:
    """Return the function of an array: now if its numbers are known, later if they are not."""
    if not isinstance(numbers, Later):
        return function(numbers)
    pattern = function(np.ones(numbers.shape, numbers.dtype))
    return Later(lambda: function(numbers.read()), pattern.shape, pattern.dtype)


def as_tensor(numbers: Numbers, name: str) -> ir.TensorProtocol:
    """Return numbers as a tensor of the graph."""
    if not isinstance(numbers, Later):
        return ir.tensor(numbers, name=name)
    return ir.LazyTensor(
        lambda: ir.tensor(numbers.read(), name=name),
        ir.DataType.from_numpy(numbers.dtype),
        ir.Shape(numbers.shape),
        name=name,
    )


def weight_of(value: ir.Value) -> Later:
    """Return a value's weight as float32 numbers, to be read when the value has it."""
    assert value.shape is not None
    shape = tuple(size for size in value.shape if isinstance(size, int))

    def read() -> np.ndarray:
        assert value.const_value is not None
        return value.const_value.numpy().astype(np.float32)

    return Later(read, shape, np.dtype(np.float32))
