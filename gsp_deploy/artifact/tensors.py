"""The inputs and outputs of a model, for the manifest and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# Outputs of a model with a GSP head, in order, with their sizes in words.
OUTPUTS: Mapping[str, tuple[int | str, ...]] = {
    "embedding": ("batch", "embedding_dim"),
    "attributes": ("batch", "prototypes"),
    "weights": ("batch", "height", "width"),
    "residual": ("batch",),
    "embedding_bound": ("batch",),
}
# Those that an export may add; `residual` adds `embedding_bound` too, where there is a bound.
OptionalOutput = Literal["attributes", "weights", "residual"]
# Outputs about an answer's own error. They are always float32, because they are bounds.
CERTIFICATES = ("residual", "embedding_bound")
# torch's formula for a size that strided convolutions compute from another size.
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
        """Return the tensor in words, such as `images float32 (batch, 3, height, width)`."""
        return f"{self.name} {self.dtype} {shape_in_words(self.shape)}"


def shape_in_words(shape: Sequence[int | str]) -> str:
    """Return a shape as text, with the exporter's formulas shortened.

    >>> shape_in_words(("batch", 3, "(height - 1)//8 + 1"))
    '(batch, 3, ceil(height/8))'
    """
    sizes = [_ROUNDED_UP.sub(r"ceil(\1/\2)", str(size)) for size in shape]
    return f"({', '.join(sizes)})"
