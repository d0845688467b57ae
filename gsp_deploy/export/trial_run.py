"""Running a graph that is not written yet: to certify it, to judge it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir

from gsp_deploy.runtime.onnx_graph import OnnxGraph


@contextmanager
def running(network: ir.Model) -> Iterator[OnnxGraph]:
    """Yield the graph, open in ONNX Runtime on the CPU while the block runs."""
    with tempfile.TemporaryDirectory(prefix="gsp-graph-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(network, path, external_data="model.onnx.data")
        with OnnxGraph(path) as graph:
            yield graph
