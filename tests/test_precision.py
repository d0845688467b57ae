"""Every precision has a whole row, and every row agrees with the libraries that it names."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch

from gsp_deploy.base.elements import BY_TENSORRT, ELEMENTS, END_ELEMENTS, Element
from gsp_deploy.base.encoding import storage_of
from gsp_deploy.errors import UsageError
from gsp_deploy.precision import (
    FLOAT_WORDS,
    PRECISIONS,
    TOLERANCES,
    WORDS,
    FloatPrecisionWord,
    PrecisionWord,
    precision_named,
)


def test_every_word_has_a_row_and_limits_of_its_own() -> None:
    assert set(PRECISIONS) == set(get_args(PrecisionWord)) == set(WORDS)
    assert set(TOLERANCES) == {*WORDS, "unknown"}
    for word, row in PRECISIONS.items():
        assert row.word == word
        assert row.tolerances is not TOLERANCES["unknown"]
    assert {w for w in WORDS if not PRECISIONS[w].quantised} == set(get_args(FloatPrecisionWord))
    assert set(FLOAT_WORDS) <= set(WORDS)


def test_an_unknown_precision_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="precision must be one of fp32, fp16, bf16, int8, got"):
        precision_named("fp8")


@pytest.mark.parametrize("row", ELEMENTS.values(), ids=ELEMENTS)
def test_an_element_type_is_the_same_in_every_library(row: Element) -> None:
    number = onnx.TensorProto.DataType.Value(row.onnx)
    assert onnx_ir.DataType[row.onnx] == number
    assert onnx_ir.DataType[row.onnx].itemsize == row.nbytes == storage_of(row.name).itemsize
    assert getattr(torch, row.name).itemsize == row.nbytes
    assert BY_TENSORRT[row.tensorrt] is row
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([1], number)
    assert value.data_type() == row.onnxruntime
    if row.in_numpy:
        assert np.dtype(row.array_interface) == storage_of(row.name)


@pytest.mark.parametrize("row", END_ELEMENTS, ids=lambda row: row.name)
def test_dlpack_names_the_type_by_the_code_in_the_row(row: Element) -> None:
    from gsp_deploy.runtime.dlpack import read_capsule

    assert (
        read_capsule(torch.zeros(2, dtype=getattr(torch, row.name)).__dlpack__()).dtype == row.name
    )
