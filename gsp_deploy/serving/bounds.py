"""Check the range of numbers from a client before any memory is sized by them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from gsp_deploy.errors import RequestError, brief

MOST_DIMENSIONS = 8
# Elements of one tensor, a 0 counted as 1: beyond it numpy's own arithmetic can overflow.
LARGEST_TENSOR = 1 << 31
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def whole_number(text: str, most: int) -> int | None:
    """Return a header's whole number from 0 to `most`; None if the text is anything else."""
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number if number <= most else None


def checked_shape(shape: Any) -> list[int]:
    """Return a tensor's sizes, given by a client in JSON.

    Raises:
        RequestError: 400, unless this is a list of 1 to 8 whole numbers with a product of at most
            2^31, where each 0 counts as 1.
    """
    if _are_sizes(shape) and math.prod(max(size, 1) for size in shape) <= LARGEST_TENSOR:
        return list(shape)
    raise RequestError(
        400,
        f"expected shape to be a list of sizes, 1 to {MOST_DIMENSIONS} whole numbers with at most "
        f"{LARGEST_TENSOR:,} elements in all, got {brief(shape)}",
    )


def _are_sizes(shape: Any) -> bool:
    return (
        isinstance(shape, Sequence)
        and not isinstance(shape, str)
        and 0 < len(shape) <= MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size <= LARGEST_TENSOR for size in shape)
    )
