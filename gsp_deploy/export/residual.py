"""Write an answer's own error as ONNX operators: three nodes, and three for the bound.

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
        excess = graph.op("Sub", mean, graph.constant("one", 1.0), name="weight_excess")
        #: |mean w - 1|, `(B,)`
        self.residual = graph.reduce("ReduceL1", excess, CHANNELS, name="residual", keepdims=False)

    def embedding_bound(self, lengths: ir.Value, norm: ir.Value) -> ir.Value:
        """Return the bound `(B,)` for ||f|| `(B, 1, H, W)` and ||pooled|| above 0 `(B, 1)`."""
        graph = self.graph
        longest = graph.reduce("ReduceMax", lengths, LOCATIONS, name="longest", keepdims=False)
        share = graph.op("Div", longest, norm, name="longest_share")
        # A product that also drops the axis of 1: `(B, 1)` and `(B,)` give `(B,)`.
        product = {"equation": "bi,b->b"}
        return graph.op("Einsum", share, self.residual, name="embedding_bound", **product)


def write_no_residual(graph: GraphScope, features: ir.Value, name: str) -> ir.Value:
    """Return zeros `(B,)`: if all mass is kept, there is no equation to solve."""
    shape = graph.op("Shape", features, name=f"{name}_batch", start=0, end=1)
    return graph.op("Expand", graph.constant("zero", 0.0), shape, name=name)
