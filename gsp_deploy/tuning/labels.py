"""Place labels next to points so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

# A label may be this many of its heights away from its point.
_RINGS = 8


class Box(NamedTuple):
    """An upright rectangle: left, lower, right, upper."""

    left: float
    lower: float
    right: float
    upper: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover.

        >>> Box(0, 0, 2, 2).overlap(Box(1, 1, 4, 4))
        1
        """
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
    """Return a box for the label of each point; earlier points choose first.

    Each label takes the nearest place around its point that covers nothing and is within the frame.
    If there is none, it takes the place that covers least.

    Args:
        points: centres of the points, in pixels.
        sizes: width and height of each label.
        frame: labels should stay within this box.
        gap: from the centre of a point to its label; also the size of a point.
    """
    taken = [Box(x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2) for x, y in points]
    placed = []
    for point, size in zip(points, sizes, strict=True):
        best = min(_places(point, size, gap), key=lambda place: _covered(place, taken, frame))
        placed.append(best)
        taken.append(best)
    return placed


def _covered(place: Box, taken: Sequence[Box], frame: Box) -> float:
    """Return the area of other boxes that a place covers, plus its own area outside the frame."""
    return sum(place.overlap(other) for other in taken) + place.area - place.overlap(frame)


def _places(point: tuple[float, float], size: tuple[float, float], gap: float) -> Iterator[Box]:
    """Yield places around a point: right and left of it first, then further below and above."""
    (x, y), (width, height) = point, size
    lefts = (x + gap, x - width / 2, x - gap - width)
    yield Box(lefts[0], y - height / 2, lefts[0] + width, y + height / 2)
    yield Box(lefts[2], y - height / 2, lefts[2] + width, y + height / 2)
    for ring in range(_RINGS):
        away = gap + ring * height
        for left, lower in product(lefts, (y - away - height, y + away)):
            yield Box(left, lower, left + width, lower + height)
