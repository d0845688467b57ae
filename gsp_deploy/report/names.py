"""What artifacts are called on a page: the file's name, and as much of its folder as is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath


def shortest_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest end of each path that no other path has; equal paths have equal names."""
    parts = {path: PurePath(path).parts for path in paths}

    def name(path: str) -> str:
        own = parts[path]
        for length in range(1, len(own)):
            end = own[-length:]
            if all(other == path or parts[other][-length:] != end for other in parts):
                return str(PurePath(*end))
        return path

    return [name(path) for path in paths]
