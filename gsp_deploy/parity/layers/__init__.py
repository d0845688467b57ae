"""Where in the graph two forms of one model part: node by node, named in ONNX and in PyTorch."""

from __future__ import annotations

from gsp_deploy.parity.layers.comparison import compare_layers
from gsp_deploy.parity.layers.report import LayerReport, NodeError

__all__ = ["LayerReport", "NodeError", "compare_layers"]
