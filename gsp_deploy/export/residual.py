"""Write an answer's own error as ONNX operators: three nodes, and four for the bound.

`gsp_deploy.layers.residual` has the derivation. Weights are `(B, 1, H, W)`.
"""

from __future__ import annotations

import onnx_ir as ir

from gsp_deploy.export.graph import CHANNELS, LOCATIONS, GraphScope


class ResidualWriter:
    """Writes |mean w - 1| and the bound on the embedding that follows from it."""

    def __init__(self, graph: GraphScope, weights: ir.Value) -> None:
        self.graph = graph
        mean = graph.reduce("ReduceMean", weights, LOCATIONS, name="mean_weight", keepdims=False)
        self.excess = graph.op("Sub", mean, graph.constant("one", 1.0), name="weight_excess")

    def residual(self) -> ir.Value:
        """Return |mean w - 1|, `(B,)`."""
        return self.graph.reduce("ReduceL1", self.excess, CHANNELS, name="residual", keepdims=False)

    def embedding_bound(self, lengths: ir.Value, norm: ir.Value) -> ir.Value:
        """Return the bound `(B,)` for ||f|| `(B, 1, H, W)` and ||pooled|| above 0 `(B, 1)`."""
        graph = self.graph
        longest = graph.reduce("ReduceMax", lengths, LOCATIONS, name="longest", keepdims=False)
        error = graph.op("Mul", self.excess, longest, name="pooled_error")
        share = graph.op("Div", error, norm, name="pooled_error_share")
        return graph.reduce(
            "ReduceSumSquare", share, CHANNELS, name="embedding_bound", keepdims=False
        )


def write_no_residual(graph: GraphScope, features: ir.Value, name: str) -> ir.Value:
    """Return zeros `(B,)`: if all mass is kept, there is no equation to solve."""
    shape = graph.op("Shape", features, name=f"{name}_batch", start=0, end=1)
    return graph.op("Expand", graph.constant("zero", 0.0), shape, name=name)
