"""Tensors in JSON: read as `json` reads them, or refused before anything large is built."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gsp_deploy.errors import RequestError
from gsp_deploy.serving import json_numbers
from gsp_deploy.serving.json_numbers import array_from_json, json_from_array

from .servers import tried

SHAPES = arrays.array_shapes(max_dims=4, max_side=5)
FINITE = arrays.arrays(np.float32, SHAPES, elements={"allow_nan": False, "allow_infinity": False})
PIXELS = arrays.arrays(np.uint8, SHAPES)


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write in pieces so short that small arrays have several."""
    monkeypatch.setattr(json_numbers, "PIECE_BYTES", 7)
    monkeypatch.setattr(json_numbers, "PIECE_VALUES", 3)


@given(array=FINITE | PIXELS, indent=st.sampled_from([None, 1]), is_flat=st.booleans())
def test_what_json_writes_is_read(array, indent, is_flat) -> None:
    text = json.dumps((array.ravel() if is_flat else array).tolist(), indent=indent).encode()
    found = array_from_json(b" " + text + b"\n", array.shape, array.dtype)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(array=FINITE)
def test_what_is_written_json_reads(array) -> None:
    assert json.loads(json_from_array(array)) == array.ravel().tolist()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)  # fmt: skip


@given(value=JSON, shape=SHAPES, dtype=st.sampled_from([np.float32, np.uint8]))
def test_any_json_is_an_array_of_the_shape_or_refused_in_one_line(value, shape, dtype) -> None:
    found = tried(array_from_json, json.dumps(value).encode(), shape, np.dtype(dtype))
    if found is not None:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(found, np.asarray(value, dtype).reshape(shape))


@given(shape=SHAPES.filter(lambda s: len(s) > 1), data=st.data())
def test_another_nesting_than_the_shapes_is_refused(shape, data) -> None:
    other = data.draw(st.permutations(shape))
    nested = np.zeros(other).tolist()
    if tuple(other) == tuple(shape):
        nested = [nested]
    with pytest.raises(RequestError, match="expected data for shape"):
        array_from_json(json.dumps(nested).encode(), shape, np.dtype(np.float32))


@pytest.mark.parametrize("text", ["[[1], [2, 3, 4]]", "[1, [2, 3], 4]", "[[1, 2], 3, 4]", "[]"])
def test_lists_that_are_not_even_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected data for shape"):
        array_from_json(text.encode(), [2, 2], np.dtype(np.float32))


HOSTILE = {
    "a long text and many short ones": b'["' + b"a" * 500_000 + b'"' + b',""' * 150_000 + b"]",
    "lists": b"[" + b"[]," * 300_000 + b"[]]",
    "numbers": b"[" + b"1," * 500_000 + b"1]",
    "objects": b"[" + b'{"a":1},' * 100_000 + b"1]",
}


DEEP = (b"[[1]" + b",1" * 299_999 + b"]", [300_000, 1, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("text", "shape"), [*((text, [1]) for text in HOSTILE.values()), DEEP], ids=[*HOSTILE, "deep"]
)
def test_a_megabyte_of_something_else_takes_a_few(text: bytes, shape: list[int]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            array_from_json(text, shape, np.dtype(np.float32))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(text)
