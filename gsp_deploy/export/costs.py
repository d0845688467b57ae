"""The transport's costs as ONNX operators: how far each location is from each prototype.

||p - f||^2 = ||p||^2 + ||f||^2 - 2 p.f, in float32 and at or above 0, the products p.f as one 1x1
convolution whose kernel has the prototypes normalised and scaled. Maps are `(B, channels, H, W)`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsp_deploy.export.graph import CHANNELS, HEAD_SCOPE, GraphScope

# Holds -2 p, p being inside the unit ball, as the kernel `(M, D, 1, 1)` of a convolution.
PROTOTYPE_KERNEL = f"{HEAD_SCOPE}/const/prototypes"
# Up to here exp(-2 gamma), the smallest there is, is a normal float32 even with this to spare.
LARGEST_PLAIN_ENTROPY_WEIGHT = 40.0


def write_scores(
    graph: GraphScope, embeddings: ir.Value, prototypes: np.ndarray, entropy_weight: float
) -> ir.Value:
    """Return -gamma c, `(B, M, H, W)`, for embeddings `(B, D, H, W)` and prototypes `(M, D)`."""
    unit, one = _inside_unit_ball(prototypes), graph.constant("one", 1.0)
    square = graph.reduce("ReduceSumSquare", embeddings, CHANNELS, name="square")
    norm = graph.op("Sqrt", graph.op("Max", square, one, name="outer_square"), name="norm")
    twice = graph.constant("prototypes", (-2 * unit).astype(np.float32)[:, :, None, None])
    product = graph.op("Conv", embeddings, twice, name="product", kernel_shape=[1, 1])
    product = graph.op("Div", product, norm, name="scaled_product")
    inner = graph.op("Min", square, one, name="inner_square")
    partial = graph.op("Add", product, inner, name="partial")
    squares = np.square(unit).sum(1).astype(np.float32)
    lengths = graph.constant("prototype_square", squares[:, None, None])
    summed = graph.op("Add", partial, lengths, name="sum")
    squared = graph.op("Max", summed, graph.constant("zero", 0.0), name="squared_cost")
    cost = graph.op("Sqrt", squared, name="cost")
    return graph.op("Mul", cost, graph.constant("negative_gamma", -entropy_weight), name="scores")


def write_log_mass(graph: GraphScope, scores: ir.Value, entropy_weight: float) -> ir.Value:
    """Return logsumexp over prototypes, `(B, 1, H, W)`.

    Scores are in [-2 gamma, 0]: nothing overflows, and where nothing can vanish either the
    maximum need not be subtracted.
    """
    if entropy_weight <= LARGEST_PLAIN_ENTROPY_WEIGHT:
        mass = graph.reduce("ReduceSum", graph.op("Exp", scores, name="exp"), CHANNELS, name="mass")
        return graph.op("Log", mass, name="log_mass")
    peak = graph.reduce("ReduceMax", scores, CHANNELS, name="peak_score")
    exponentials = graph.op("Exp", graph.op("Sub", scores, peak, name="below_peak"), name="exp")
    total = graph.reduce("ReduceSum", exponentials, CHANNELS, name="mass_below_peak")
    return graph.op("Add", graph.op("Log", total, name="log"), peak, name="log_mass")


def unit_prototypes(kernel: np.ndarray) -> np.ndarray:
    """Return the prototypes inside the unit ball, `(M, D)`, that `PROTOTYPE_KERNEL` was made of."""
    return kernel.reshape(len(kernel), -1) / np.float32(-2)  # exact: a power of two


def _inside_unit_ball(vectors: np.ndarray) -> np.ndarray:
    precise = vectors.astype(np.float64)
    return precise / np.maximum(1, np.linalg.norm(precise, axis=1, keepdims=True))
