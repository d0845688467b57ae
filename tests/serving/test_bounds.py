"""Numbers from outside: whatever digits, signs and sizes come, in range or refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.errors import RequestError
from gsp_deploy.serving.bounds import LARGEST_TENSOR, checked_shape, whole_number

from .servers import tried

SIZES = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2**31, 2**31 + 1, 10**18, 2**63])


@given(st.lists(SIZES, max_size=10))
def test_a_shape_that_is_taken_can_be_used(sizes) -> None:
    shape = tried(checked_shape, sizes)
    if shape is not None:
        assert shape == sizes
        assert math.prod(shape) <= LARGEST_TENSOR
        np.broadcast_to(np.uint8(0), shape)  # numpy can hold its sizes and their product


@pytest.mark.parametrize(
    "shape",
    [[], [1] * 9, [-1], [True], [1.0], ["1"], "1", None, {}, [None], [0, 10**18, 10**18, 48],
     [10**18, 0, 48, 48], [2**63, 0], [10**1000] * 8, [2**31, 2], [2**31 + 1]],
)  # fmt: skip
def test_shapes_out_of_range(shape) -> None:
    with pytest.raises(RequestError, match="shape to be a list of sizes"):
        checked_shape(shape)


@pytest.mark.parametrize("shape", [[0], [1], [1] * 8, [2**31], [0, 2**31], [2**15, 2**16]])
def test_shapes_at_the_edge_of_their_range(shape) -> None:
    assert checked_shape(shape) == shape


@given(number=st.integers(0, 10**20), most=st.integers(0, 10**19))
def test_whole_numbers_are_read_up_to_the_most(number, most) -> None:
    expected = number if number <= most and number < 10**18 else None
    assert whole_number(str(number), most) == expected


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "²", "١",
                                  "1" * 5000, "1_0"])  # fmt: skip
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text, 10**17) is None
