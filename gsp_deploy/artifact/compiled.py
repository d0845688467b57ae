"""Recognise graphs that an execution provider compiled: their nodes are EPContext."""

from __future__ import annotations

from pathlib import Path

import onnx

_OPERATOR, _COMPILER = "EPContext", "source"


def compiled_for(path: Path) -> str | None:
    """Return the execution provider that compiled a graph, or None if none did."""
    for node in onnx.load(path, load_external_data=False).graph.node:
        if node.op_type == _OPERATOR:
            named = [a.s.decode(errors="replace") for a in node.attribute if a.name == _COMPILER]
            return named[0] if named and named[0] else "an execution provider"
    return None
