"""The inputs and outputs of a model, as a manifest holds them and as a reader is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What an answer says of its own error: float32 whatever the other outputs are, for it is a bound.
CERTIFICATES = ("residual", "embedding_bound")
# How torch writes a size that follows from another by convolutions with strides.
_ROUNDED_UP = re.compile(r"\(*(\w+) - 1\)*//(\d+)\)* \+ 1")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, element type, and shape with names for dynamic sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    def __str__(self) -> str:
        """Return it in words, such as `images float32 (batch, 3, height, width)`."""
        return f"{self.name} {self.dtype} {shape_in_words(self.shape)}"


def shape_in_words(shape: Sequence[int | str]) -> str:
    """Return a shape as `(batch, 3, ceil(height/8))`, whatever the exporter calls such a size."""
    sizes = [_ROUNDED_UP.sub(r"ceil(\1/\2)", str(size)) for size in shape]
    return f"({', '.join(sizes)})"
