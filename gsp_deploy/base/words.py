"""Wording of counts and differences in messages."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun; give `plural` if it is not the noun with an s.

    >>> counted(1, "step"), counted(1200, "step"), counted(2, "class", "classes")
    ('1 step', '1,200 steps', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def drop_in_words(points: float) -> str:
    """Return the words for a drop; a score may also rise by chance.

    >>> drop_in_words(0.31), drop_in_words(-0.06)
    ('a drop of 0.31', 'no drop (+0.06)')
    """
    return f"a drop of {points:.2f}" if points > 0 else f"no drop (+{abs(points):.2f})"
