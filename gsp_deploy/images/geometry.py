"""Compute the window of a centred crop to the pixel, with the rounding of each pipeline.

`plugins/runtime/src/geometry.cpp` is the same in C++.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsp_deploy.config import PreprocessingSpec

_LARGEST_SIDE = 1e100  # a crop ratio close to 0 would need an infinite side


@dataclass(frozen=True)
class Window:
    """One side of a crop: `size` pixels from `start`, after resizing the side to `resized`."""

    resized: int
    start: int
    size: int

    def within(self, first: float, last: float) -> tuple[float, float]:
        """Return the window's begin and end, if the original side is from `first` to `last`."""
        begin, end = self.span(last - first)
        return first + begin, min(first + end, last)

    def span(self, have: float) -> tuple[float, float]:
        """Return the window's begin and end in pixels of the original side, `have` pixels long."""
        begin, end = (place * have / self.resized for place in (self.start, self.start + self.size))
        return begin, min(end, have)


def crop_windows(original: tuple[int, int], spec: PreprocessingSpec) -> tuple[Window, Window]:
    """Return the crop's windows across and down, for an image of size `(width, height)`.

    >>> crop_windows((640, 480), PreprocessingSpec(224, 224))[0]
    Window(resized=298, start=37, size=224)
    """
    wanted = (spec.width, spec.height)
    if spec.resize == "stretch":
        sides = _stretched(wanted, spec)
    else:
        sides = _RESIZED[spec.pipeline](original, wanted, spec.crop_ratio)
    across, down = (
        _centred(max(side, want), want, spec.pipeline)
        for side, want in zip(sides, wanted, strict=True)
    )
    return across, down


def _stretched(wanted: tuple[int, int], spec: PreprocessingSpec) -> tuple[int, int]:
    """Return the sides that an image of any aspect ratio is resized to."""
    if spec.pipeline == "pillow":
        return wanted
    whole = math.floor if spec.pipeline == "timm" else round
    width, height = (whole(_quotient(want, spec.crop_ratio)) for want in wanted)
    return width, height


def _centred(resized: int, want: int, pipeline: str) -> Window:
    left = resized - want
    # torchvision's CenterCrop, which timm uses too, rounds half to even; others round down.
    start = left // 2 if pipeline in ("opencv", "pillow") else _half_to_even(left)
    return Window(resized, start, want)


def _half_to_even(number: int) -> int:
    """Return half of a number like `round(number / 2)`, but for whole numbers of any size."""
    half, rest = divmod(number, 2)
    return half + (rest and half % 2)


def _torchvision(
    original: tuple[int, int], wanted: tuple[int, int], ratio: float
) -> tuple[int, int]:
    """`Resize(round(size / ratio))`: one side has this size, the other is truncated."""
    return _truncated(original, [round(_quotient(want, ratio)) for want in wanted])


def _timm(original: tuple[int, int], wanted: tuple[int, int], ratio: float) -> tuple[int, int]:
    """`create_transform`: the size is rounded down; `ResizeKeepRatio` if it is not square."""
    covered = [math.floor(_quotient(want, ratio)) for want in wanted]
    if covered[0] == covered[1]:
        return _truncated(original, covered)
    scale = min(have / cover for have, cover in zip(original, covered, strict=True))
    width, height = (round(have / scale) for have in original)
    return width, height


def _rounded(original: tuple[int, int], wanted: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Scale both sides by the same factor and round each to the nearest."""
    scale = max(want / have for have, want in zip(original, wanted, strict=True)) / ratio
    width, height = (round(min(have * scale, _LARGEST_SIDE)) for have in original)
    return width, height


def _truncated(original: tuple[int, int], covered: list[int]) -> tuple[int, int]:
    """Return sides in the image's aspect ratio that cover `covered`; truncate the longer one."""
    (width, height), (across, down) = original, covered
    if across * height >= down * width:
        return across, across * height // width
    return down * width // height, down


def _quotient(want: int, ratio: float) -> float:
    return min(want / ratio, _LARGEST_SIDE)


_RESIZED = {"torchvision": _torchvision, "timm": _timm, "opencv": _rounded, "pillow": _rounded}
