"""Split a batch into chunks that fit an engine's profiles, and pad them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gsp_deploy.errors import UsageError


@dataclass(frozen=True)
class InputProfile:
    """Shapes of the input that one optimisation profile admits, batch first."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __str__(self) -> str:
        return "x".join(
            str(low) if low == high else f"{low}:{best}:{high}"
            for low, best, high in zip(self.minimum, self.optimum, self.maximum, strict=True)
        )

    def admits(self, sizes: Sequence[int]) -> bool:
        """Return whether images of these sizes (the shape without the batch) fit."""
        return len(sizes) == len(self.minimum) - 1 and all(
            low <= size <= high
            for low, size, high in zip(self.minimum[1:], sizes, self.maximum[1:], strict=True)
        )

    def distance(self, shape: Sequence[int]) -> float:
        """Return how far a shape is from the profile's optimum: a sum of |log ratio|."""
        pairs = zip(shape, self.optimum, strict=True)
        return sum(abs(math.log(size / best)) for size, best in pairs)


@dataclass(frozen=True)
class Chunk:
    """Some images that go through the engine at once.

    Attributes:
        start: index of the first of them.
        count: how many there are.
        batch: how many the engine gets; the images beyond `count` are padding.
        profile: index of the profile.
    """

    start: int
    count: int
    batch: int
    profile: int


def batch_steps(most: int) -> tuple[int, ...]:
    """Return the sizes that batches of up to `most` images are padded to: powers of two, and it.

    >>> batch_steps(24)
    (1, 2, 4, 8, 16, 24)
    """
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def plan_chunks(
    profiles: Sequence[InputProfile],
    count: int,
    sizes: Sequence[int],
    max_batch: int,
    steps: Sequence[int] = (),
) -> list[Chunk]:
    """Split images into chunks and choose a profile for each.

    The profile that needs the least padding wins; of several, the one with the nearest optimum.
    Without any image there is one chunk of padding, because the outputs' shapes are needed.

    Args:
        profiles: what the engine takes.
        count: the number of images.
        sizes: of one image, without the batch.
        max_batch: the most images that go through at once.
        steps: sizes that a batch is padded to if the profile admits one; ascending.

    Raises:
        UsageError: no profile admits images of these sizes.
    """
    limit = largest_batch(profiles, sizes, max_batch)
    chunks = []
    for start in range(0, max(count, 1), limit):
        part = min(limit, count - start)
        profile = _nearest(profiles, max(part, 1), sizes)
        batch = max(part, profiles[profile].minimum[0])
        most = profiles[profile].maximum[0]
        padded = next((step for step in steps if batch <= step <= most), batch)
        chunks.append(Chunk(start, part, padded, profile))
    return chunks


def largest_batch(profiles: Sequence[InputProfile], sizes: Sequence[int], max_batch: int) -> int:
    """Return how many images of these sizes go through at once.

    Raises:
        UsageError: no profile admits them.
    """
    admitting = [profile for profile in profiles if profile.admits(sizes)]
    if not admitting:
        shapes = ", ".join(str(profile) for profile in profiles)
        raise UsageError(
            f"the engine takes inputs of {shapes} (min:opt:max), got images of "
            f"{'x'.join(str(size) for size in sizes)}; build it with a --size that covers them"
        )
    return min(max_batch, max(profile.maximum[0] for profile in admitting))


def _nearest(profiles: Sequence[InputProfile], count: int, sizes: Sequence[int]) -> int:
    fitting = [
        index
        for index, profile in enumerate(profiles)
        if profile.admits(sizes) and count <= profile.maximum[0]
    ]

    def cost(index: int) -> tuple[int, float]:
        batch = max(count, profiles[index].minimum[0])
        return batch - count, profiles[index].distance((batch, *sizes))

    return min(fitting, key=cost)
