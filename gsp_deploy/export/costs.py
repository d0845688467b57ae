"""The transport's costs as ONNX operators: how far each location is from each prototype.

With k the prototype nearest to f and x_j = ||p_j||^2 - 2 p_j.f, the squared cost is
||p_k - f||^2 + (x_j - x_k), in float32. The first term is summed from differences. The products
p.f are one 1x1 convolution; its kernel holds the normalised and scaled prototypes. If a location is
on a prototype, nothing cancels. No square is below 0. NaN stays NaN in every runtime, because the
graph takes no maximum. `gsp_deploy.cost_bounds` bounds the error. Maps are `(B, channels, H, W)`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsp_deploy.export.graph import CHANNELS, GraphScope
from gsp_deploy.export.later import Numbers, computed

# The constant -2 p, p being inside the unit ball, as the kernel `(M, D, 1, 1)` of a convolution.
PROTOTYPE_KERNEL = "prototypes"
# The same prototypes p as rows `(M, D)`.
UNIT_PROTOTYPES = "unit_prototypes"
# Up to this gamma the smallest exponential, exp(-2 gamma), is a normal float32 with room to spare.
LARGEST_PLAIN_ENTROPY_WEIGHT = 40.0


def write_lengths(graph: GraphScope, embeddings: ir.Value) -> ir.Value:
    """Return ||f|| `(B, 1, H, W)`."""
    return graph.reduce("ReduceL2", embeddings, CHANNELS, name="length")


def write_scores(
    graph: GraphScope,
    embeddings: ir.Value,
    lengths: ir.Value,
    prototypes: Numbers,
    entropy_weight: float,
) -> ir.Value:
    """Return -gamma c, `(B, M, H, W)`.

    Args:
        graph: where the operators go.
        embeddings: f `(B, D, H, W)`.
        lengths: ||f|| `(B, 1, H, W)`, as `write_lengths` returns them.
        prototypes: p `(M, D)`.
        entropy_weight: gamma.
    """
    unit = computed(_rounded_unit, prototypes)
    points = _inside_unit_ball_maps(graph, embeddings, lengths)
    twice = graph.constant(PROTOTYPE_KERNEL, computed(_as_kernel, unit))
    squares = graph.constant("prototype_square", computed(_square_sums, unit))
    relative = graph.op("Conv", points, twice, squares, name="product", kernel_shape=[1, 1])
    beyond = _nearest_square(graph, points, relative, unit)
    least = graph.reduce("ReduceMin", relative, CHANNELS, name="least_product")
    apart = graph.op("Sub", relative, least, name="beyond_nearest")
    squared = graph.op("Add", apart, beyond, name="squared_cost")
    cost = graph.op("Sqrt", squared, name="cost")
    return graph.op("Mul", cost, graph.constant("negative_gamma", -entropy_weight), name="scores")


def _inside_unit_ball_maps(graph: GraphScope, embeddings: ir.Value, lengths: ir.Value) -> ir.Value:
    """Return f / max(1, ||f||)."""
    norm = graph.op("Max", lengths, graph.constant("one", 1.0), name="norm")
    return graph.op("Div", embeddings, norm, name="unit")


def _nearest_square(
    graph: GraphScope, points: ir.Value, relative: ir.Value, unit: Numbers
) -> ir.Value:
    """Return ||p_k - f||^2, `(B, 1, H, W)`, for the nearest prototype k (the least x_k)."""
    index = graph.op("ArgMin", relative, name="nearest", axis=CHANNELS[0], keepdims=0)
    rows = graph.op("Gather", graph.constant(UNIT_PROTOTYPES, unit), index, name="nearest_rows")
    nearest = graph.op("Transpose", rows, name="nearest_prototype", perm=[0, 3, 1, 2])
    offset = graph.op("Sub", points, nearest, name="offset")
    return graph.reduce("ReduceSumSquare", offset, CHANNELS, name="nearest_square")


def write_log_mass(graph: GraphScope, scores: ir.Value, entropy_weight: float) -> ir.Value:
    """Return logsumexp over prototypes, `(B, 1, H, W)`.

    Scores are in [-2 gamma, 0], so nothing overflows. If gamma is so small that no exponential
    vanishes either, the maximum is not subtracted.
    """
    if entropy_weight <= LARGEST_PLAIN_ENTROPY_WEIGHT:
        mass = graph.reduce("ReduceSum", graph.op("Exp", scores, name="exp"), CHANNELS, name="mass")
        return graph.op("Log", mass, name="log_mass")
    peak = graph.reduce("ReduceMax", scores, CHANNELS, name="peak_score")
    exponentials = graph.op("Exp", graph.op("Sub", scores, peak, name="below_peak"), name="exp")
    total = graph.reduce("ReduceSum", exponentials, CHANNELS, name="mass_below_peak")
    return graph.op("Add", graph.op("Log", total, name="log"), peak, name="log_mass")


def unit_prototypes(kernel: np.ndarray) -> np.ndarray:
    """Return the prototypes inside the unit ball, `(M, D)`, from the kernel `PROTOTYPE_KERNEL`."""
    return kernel.reshape(len(kernel), -1) / np.float32(-2)  # exact: a power of two


def _square_sums(unit: np.ndarray) -> np.ndarray:
    """Return ||p||^2 `(M,)`, rounded once."""
    return np.square(unit.astype(np.float64)).sum(axis=1).astype(np.float32)


def _as_kernel(unit: np.ndarray) -> np.ndarray:
    """Return -2 p as the kernel `(M, D, 1, 1)` of a convolution."""
    kernel: np.ndarray = (-2 * unit)[:, :, None, None]
    return kernel


def _rounded_unit(vectors: np.ndarray) -> np.ndarray:
    return _inside_unit_ball(vectors).astype(np.float32)


def _inside_unit_ball(vectors: np.ndarray) -> np.ndarray:
    precise = vectors.astype(np.float64)
    return precise / np.maximum(1, np.linalg.norm(precise, axis=1, keepdims=True))
