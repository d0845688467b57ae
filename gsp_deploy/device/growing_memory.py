"""Memory that is kept between calls, and replaced when a call needs more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class GrowingMemory(Generic[T]):
    """One piece of memory by a pair of functions that allocate and free it.

    Attributes:
        size: bytes there are now; 0 before the first use and after a failure to grow.
        generation: grows by one whenever the memory moves, so that a holder of the old address
            can notice.
    """

    def __init__(self, allocate: Callable[[int], T], free: Callable[[T], None]) -> None:
        self._allocate, self._free = allocate, free
        self._memory: T | None = None
        self.size = 0
        self.generation = 0

    @property
    def memory(self) -> T:
        """The memory that `reserve` returned last."""
        assert self._memory is not None, "reserve comes first"
        return self._memory

    def reserve(self, size: int) -> T:
        """Return at least `size` bytes. The old memory is freed first.

        The caller makes sure that nothing uses the memory.
        """
        if self._memory is None or size > self.size:
            self.release()
            self._memory = self._allocate(size)
            self.size = size
            self.generation += 1
        return self._memory

    def release(self) -> None:
        """Free the memory; the next `reserve` allocates again."""
        memory, self._memory, self.size = self._memory, None, 0
        if memory is not None:
            self._free(memory)
