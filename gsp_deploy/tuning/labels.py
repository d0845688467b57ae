"""Where labels of points go so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple


class Box(NamedTuple):
    """An upright rectangle: left, lower, right, upper."""

    left: float
    lower: float
    right: float
    upper: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.upper, other.upper) - max(self.lower, other.lower)
        return max(width, 0) * max(height, 0)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.upper - self.lower)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    gap: float,
) -> list[Box]:
    """Return a box for each point's label; who comes first chooses first.

    Each takes the nearest place around its point that covers nothing and lies within the frame;
    where there is none, the one that covers least.

    Args:
        points: what is labelled, in pixels.
        sizes: width and height of each label.
        frame: what labels should stay within.
        gap: between a point's middle and its label; points are as large as that.
    """
    taken = [Box(x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2) for x, y in points]
    placed = []
    for point, size in zip(points, sizes, strict=True):
        best = min(_places(point, size, gap), key=lambda place: _covered(place, taken, frame))
        placed.append(best)
        taken.append(best)
    return placed


def _covered(place: Box, taken: Sequence[Box], frame: Box) -> float:
    """Return how much of others a place covers, and how much of it is outside of the frame."""
    return sum(place.overlap(other) for other in taken) + place.area - place.overlap(frame)


def _places(point: tuple[float, float], size: tuple[float, float], gap: float) -> Iterator[Box]:
    """Yield places around a point, the nearest ring first, in each the right side first."""
    (x, y), (width, height) = point, size
    for ring in (1, 2, 3, 4):
        away = gap + (ring - 1) * height
        lefts = (x + away, x - width / 2, x - away - width)
        lowers = (y - height / 2, y - away - height, y + away)
        for left, lower in product(lefts, lowers):
            if (left, lower) != (lefts[1], lowers[0]):  # on the point itself
                yield Box(left, lower, left + width, lower + height)
