"""Element types that numpy has or lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsp_deploy.base.encoding import decode, encode, storage_of
from gsp_deploy.errors import UsageError


def test_bfloat16_rounds_as_torch_does() -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal(4000).astype(np.float32) * np.exp2(draw.integers(-60, 60, 4000))
    values = np.append(values, [0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 3e38]).astype(np.float32)
    expected = torch.from_numpy(values).bfloat16()
    stored = encode(values, "bfloat16")
    assert stored.dtype == storage_of("bfloat16")
    np.testing.assert_array_equal(stored, expected.view(torch.uint16).numpy())
    np.testing.assert_array_equal(decode(stored, "bfloat16"), expected.float().numpy())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_fits_comes_back(dtype: str) -> None:
    values = np.array([[0, 0.5, -2, 240]], np.float32)
    found = decode(encode(values, dtype), dtype)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_beyond_float16_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reaches 7e\+04, too large for the model's float16"):
        encode(np.array([7e4], np.float32), "float16")
