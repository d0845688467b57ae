"""Capsules that torch and numpy read, and theirs that we read. On the CPU: the layout is one."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from gsp_deploy.errors import UsageError
from gsp_deploy.runtime.dlpack import _given, make_capsule, read_capsule

CPU = (1, 0)


class Exported:
    """Host memory behind a capsule of ours."""

    def __init__(self, values: np.ndarray, dtype: str) -> None:
        self.values, self.dtype = values, dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def __dlpack__(self, **_: object) -> object:
        address = self.values.ctypes.data
        return make_capsule(self, address, self.values.shape, self.dtype, CPU)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_numpy_and_torch_read_ours(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.testing.assert_array_equal(np.from_dlpack(Exported(values, dtype)), values)
    np.testing.assert_array_equal(torch.from_dlpack(Exported(values, dtype)).numpy(), values)


def test_torch_reads_bfloat16() -> None:
    bits = np.array([0x3F80, 0xC000], np.uint16)
    assert torch.from_dlpack(Exported(bits, "bfloat16")).tolist() == [1.0, -2.0]


def test_the_owner_lives_as_long_as_the_reader() -> None:
    exported = Exported(np.ones(3, np.float32), "float32")
    owner, tensor = weakref.ref(exported), torch.from_dlpack(exported)
    del exported
    gc.collect()
    assert owner() is not None
    assert tensor.tolist() == [1, 1, 1]
    del tensor
    gc.collect()
    assert owner() is None


def test_a_capsule_that_nobody_took_frees_its_owner() -> None:
    before = len(_given)
    exported = Exported(np.ones(3, np.float32), "float32")
    capsule = exported.__dlpack__()
    assert len(_given) == before + 1
    del capsule
    gc.collect()
    assert len(_given) == before


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8"])
def test_torch_is_read(dtype: str) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    found = read_capsule(tensor.__dlpack__())
    assert (found.address, found.shape, found.dtype) == (tensor.data_ptr(), (2, 3), dtype)
    part = tensor[:, 1:]
    found = read_capsule(part.__dlpack__())
    assert (found.address, found.strides) == (part.data_ptr(), (3, 1))


def test_other_elements_are_refused() -> None:
    with pytest.raises(UsageError, match="expected elements of float32"):
        read_capsule(torch.zeros(2, dtype=torch.int64).__dlpack__())
