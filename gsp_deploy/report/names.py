"""Short names for artifacts: the file name, and as much of the folder as makes it unique."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from gsp_deploy.parity.document import Check


def shortest_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest end of each path that no other path has; equal paths have equal names.

    >>> shortest_names(["a/model.onnx", "b/model.onnx", "b/other.onnx"])
    ['a/model.onnx', 'b/model.onnx', 'other.onnx']
    """
    parts = {path: PurePath(path).parts for path in paths}

    def name(path: str) -> str:
        own = parts[path]
        for length in range(1, len(own)):
            end = own[-length:]
            if all(other == path or parts[other][-length:] != end for other in parts):
                return str(PurePath(*end))
        return path

    return [name(path) for path in paths]


def labels_of(checks: Sequence[Check]) -> list[str]:
    """Return the checks' names, with the reference if one artifact was checked more than once."""
    names = [check.name for check in checks]
    return [
        check.name if names.count(check.name) == 1 else f"{check.name}, against {check.reference}"
        for check in checks
    ]
