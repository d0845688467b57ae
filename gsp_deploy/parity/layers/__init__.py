"""Find the node where two forms of one model begin to differ, with its PyTorch module."""

from __future__ import annotations

from gsp_deploy.parity.layers.comparison import compare_layers
from gsp_deploy.parity.layers.report import LayerReport, NodeError

__all__ = ["LayerReport", "NodeError", "compare_layers"]
