"""Pool maps to one vector per image, and apply the 1x1 embedding to such a vector.

Maps are `(B, channels, H, W)`, weights `(B, 1, H, W)`, vectors `(B, channels)`, all float32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gsp_deploy.base.constants import GEM_FLOOR
from gsp_deploy.export.graph import LOCATIONS, GraphScope
from gsp_deploy.export.later import Later, computed

Power = float | Later

# Up to this power, float32 holds the powers of features from the floor of 1e-6 to 1e8.
LARGEST_PLAIN_POWER = 4.0


def write_pooling(
    graph: GraphScope,
    mode: str,
    maps: ir.Value,
    weights: ir.Value | None = None,
    power: Power | None = None,
) -> ir.Value:
    """Return maps times weights, pooled by `gap`, `gmp`, or `gem` with its power."""
    weighted = maps if weights is None else graph.op("Mul", maps, weights, name="weighted")
    if mode == "gem":
        assert power is not None
        return _generalised_mean(graph, weighted, power)
    return average(graph, weighted, "pooled") if mode == "gap" else peak(graph, weighted, "pooled")


def average(graph: GraphScope, maps: ir.Value, name: str) -> ir.Value:
    """Return the mean over locations."""
    return graph.reduce("ReduceMean", maps, LOCATIONS, name=name, keepdims=False)


def peak(graph: GraphScope, maps: ir.Value, name: str) -> ir.Value:
    """Return the maximum over locations."""
    return graph.reduce("ReduceMax", maps, LOCATIONS, name=name, keepdims=False)


def embed_vector(
    graph: GraphScope, vector: ir.Value, weight: ir.Value, bias: ir.Value | None, name: str
) -> ir.Value:
    """Return W v + b, with W as a kernel `(D, C, 1, 1)`.

    This is a convolution, because TensorRT-RTX has no float32 matrix product for Turing.
    """
    axes = graph.axes(LOCATIONS)
    inputs = [graph.op("Unsqueeze", vector, axes, name=f"{name}_map"), weight]
    if bias is not None:
        inputs.append(bias)
    embedded = graph.op("Conv", *inputs, name=name, kernel_shape=[1, 1])
    return graph.op("Squeeze", embedded, axes, name=f"{name}_vector")


def _generalised_mean(graph: GraphScope, maps: ir.Value, power: Power) -> ir.Value:
    """Return the p-mean over locations, scaled by the peak if powers could overflow."""
    floored = graph.op("Max", maps, graph.constant("gem_floor", GEM_FLOOR), name="floored")
    if not isinstance(power, Later) and power <= LARGEST_PLAIN_POWER:
        return _power_mean(graph, floored, power, "pooled")
    largest = graph.reduce("ReduceMax", floored, LOCATIONS, name="peak")
    relative = graph.op("Div", floored, largest, name="relative")
    root = _power_mean(graph, relative, power, "root")
    scale = graph.op("Squeeze", largest, graph.axes(LOCATIONS), name="peak_vector")
    return graph.op("Mul", root, scale, name="pooled")


def _power_mean(graph: GraphScope, maps: ir.Value, power: Power, name: str) -> ir.Value:
    """Return (mean_i v_i^p)^(1/p)."""
    raised = graph.op("Pow", maps, graph.constant("power", power), name="raised")
    mean = average(graph, raised, "mean_power")
    inverse = computed(np.reciprocal, power) if isinstance(power, Later) else 1 / power
    return graph.op("Pow", mean, graph.constant("inverse_power", inverse), name=name)
