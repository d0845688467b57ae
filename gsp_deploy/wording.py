"""Words around figures."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 step`, `2 steps` or `1,200 steps`; a plural that takes more than an s is given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
