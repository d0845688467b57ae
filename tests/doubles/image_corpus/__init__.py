"""Image files made by the tests: container, pixel format and metadata in every combination.

Both decoders, Python's and C++'s, are tried on them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A file, and what is known about it beforehand.

    Args:
        name: unique; its suffix is the container's.
        content: the file's bytes.
        taken: whether it is decoded; None where either will do, as long as all decoders agree.
        turn: the orientation that its metadata states; None where that is not known beforehand.
    """

    name: str
    content: bytes
    taken: bool | None = True
    turn: int | None = 1
