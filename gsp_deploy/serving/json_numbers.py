"""Convert numbers between JSON text and arrays, piece by piece.

Pieces are short, so that no step holds Python's interpreter lock for long. The numbers are counted
before an array is allocated, so memory stays a small multiple of the text's length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from gsp_deploy.errors import RequestError, brief

PIECE_BYTES = 1 << 18  # of JSON text read at once
PIECE_VALUES = 1 << 14  # numbers written at once
_PIXEL = Annotated[int, msgspec.Meta(ge=0, le=255)]
_PIXELS = msgspec.json.Decoder(list[_PIXEL])
_NUMBERS = msgspec.json.Decoder(list[float])
_encode = msgspec.json.Encoder().encode
_NEITHER_BRACKET_NOR_COMMA = bytes(set(range(256)) - set(b"[],"))


def array_from_json(text: bytes, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """Return the numbers of a JSON array, in an array of the shape.

    Args:
        text: one valid JSON value: a list of numbers, flat or nested as the shape is.
        shape: what the numbers must fill, within `checked_shape`'s range.
        dtype: uint8 takes whole numbers from 0 to 255, a floating type any number.

    Raises:
        RequestError: 400, if the text is something else.
    """
    count = math.prod(shape)
    flat = _flattened(text.strip(), shape, count)
    decoder = _PIXELS if dtype == np.uint8 else _NUMBERS
    values, filled, start = np.empty(count, dtype), 0, 0
    with np.errstate(over="ignore"):  # a number beyond the type becomes infinity, refused later
        while start < len(flat):
            comma = flat.find(b",", start + PIECE_BYTES)
            end = len(flat) if comma < 0 else comma
            numbers = _decoded(decoder, b"[" + flat[start:end] + b"]")
            if filled + len(numbers) > count:
                break
            values[filled : filled + len(numbers)] = numbers
            filled, start = filled + len(numbers), end + 1
    if filled != count:
        raise _other_count(shape, count, filled)
    return values.reshape(shape)


def json_from_array(array: np.ndarray) -> bytes:
    """Return an array's values as one flat JSON list; all of them must be finite."""
    flat = array.ravel()
    pieces = (
        _encode(flat[start : start + PIECE_VALUES].tolist())[1:-1]
        for start in range(0, flat.size, PIECE_VALUES)
    )
    return b"[" + b",".join(pieces) + b"]"


def _flattened(text: bytes, shape: Sequence[int], count: int) -> bytes:
    """Return the numbers with commas between them, once their count and nesting fit the shape."""
    if not text.startswith(b"["):
        raise _bad(f"expected data to be a list of numbers, got {brief(text[:80])}")
    if b'"' in text or b"{" in text:
        raise _bad("expected data to be numbers, got text or an object among them")
    found = text.count(b",") + 1
    if found != max(count, 1):
        raise _other_count(shape, count, found)
    if text.count(b"[") == 1:
        return text[1:-1]
    if text.count(b"[") != _brackets(shape) or _structure(text) != _structure_of(shape):
        raise _bad(f"expected data for shape {list(shape)}, flat or nested evenly as the shape is")
    return text.translate(None, b"[]")


def _brackets(shape: Sequence[int]) -> int:
    """Return how many lists a nested array of the shape has."""
    return sum(math.prod(shape[:depth]) for depth in range(len(shape)))


def _structure(text: bytes) -> bytes:
    return text.translate(None, _NEITHER_BRACKET_NOR_COMMA)


def _structure_of(shape: Sequence[int]) -> bytes:
    """Return the brackets and commas of a nested array of the shape."""
    inner = b""
    for size in reversed(shape):
        inner = b"[" + b",".join([inner] * size) + b"]"
    return inner


def _decoded(decoder: msgspec.json.Decoder[list[Any]], text: bytes) -> list[Any]:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, ValueError) as error:
        wanted = "numbers" if decoder is _NUMBERS else "whole numbers, UINT8 from 0 to 255"
        reason = str(error).partition(" - at ")[0]
        raise _bad(f"expected data to be {wanted}: {reason}") from error


def _other_count(shape: Sequence[int], count: int, found: int) -> RequestError:
    return _bad(f"expected data for shape {list(shape)}, {count:,} numbers, got {found:,}")


def _bad(message: str) -> RequestError:
    return RequestError(400, message)
