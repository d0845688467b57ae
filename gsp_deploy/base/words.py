"""Words around figures."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 step`, `2 steps` or `1,200 steps`; a plural that takes more than an s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def drop_in_words(points: float) -> str:
    """Return `a drop of 0.31`; by chance a score may rise instead, as in `no drop (+0.06)`."""
    return f"a drop of {points:.2f}" if points > 0 else f"no drop (+{abs(points):.2f})"
