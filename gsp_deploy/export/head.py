"""The pooling head as ONNX operators, with everything that is constant at inference folded.

Prototypes come in normalised and scaled, the 1x1 embedding as one convolution, and the cost as
one matrix product: ||p - f||^2 = ||p||^2 + ||f||^2 - 2 p.f, held in float32 and at or above 0.
The layout is `(B, channels, N)`; the weights stay `(B, 1, N)`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsp_deploy.config import BaselineConfig, GSPConfig
from gsp_deploy.constants import GEM_FLOOR, NORM_FLOOR
from gsp_deploy.export.graph import HEAD_SCOPE, GraphScope
from gsp_deploy.export.precision import as_type
from gsp_deploy.export.solver import LOCATIONS, mixing_weights

CHANNELS = 1
# Holds -2 p, p being inside the unit ball, as the kernel `(M, D, 1)` of a convolution.
PROTOTYPE_KERNEL = f"{HEAD_SCOPE}/const/prototypes"
# Up to here exp(-2 gamma), the smallest there is, is a normal float32 even with this to spare.
LARGEST_PLAIN_ENTROPY_WEIGHT = 40.0
# Up to here features from the floor of 1e-6 to 1e8 have powers that float32 holds.
LARGEST_PLAIN_POWER = 4.0


@dataclass(frozen=True)
class HeadParameters:
    """A pooling head's trained numbers, float32: what the graph needs besides the config.

    `embed_weight (D, C)`, `embed_bias (D,)` or None, `prototypes (M, D)` or None, `power`.
    """

    embed_weight: np.ndarray
    embed_bias: np.ndarray | None
    prototypes: np.ndarray | None = None
    power: float | None = None


@dataclass(frozen=True)
class SolverPlan:
    """Which solver the graph unrolls, and for how many steps."""

    solver: str
    steps: int


def write_head(
    graph: ir.Graph,
    features: ir.Value,
    config: GSPConfig | BaselineConfig,
    parameters: HeadParameters,
    plan: SolverPlan,
    outputs: Collection[str] = (),
) -> dict[str, ir.Value]:
    """Append the head to `graph` and return its outputs by name.

    What a mode does not use is written all the same, and goes when unused nodes are removed.

    Args:
        graph: receives nodes and constants.
        features: `(B, C, H, W)` in the backbone's precision.
        config: what the head computes.
        parameters: its trained numbers.
        plan: how the transport is solved.
        outputs: `attributes` and `weights`, when wanted beside `embedding`.
    """
    scope = GraphScope(graph, HEAD_SCOPE)
    writer = _HeadWriter(scope, features, config.in_channels, parameters)
    if isinstance(config, BaselineConfig):
        found = {"embedding": writer.baseline(config)}
    else:
        found = writer.generalized_sum(config, plan, outputs)
    if config.normalize:
        found["embedding"] = _l2_normalise(scope, found["embedding"])
    return found


class _HeadWriter:
    """One head being written: the graph, its input and the constants made of its parameters."""

    def __init__(
        self, scope: GraphScope, features: ir.Value, channels: int, parameters: HeadParameters
    ) -> None:
        self.graph = scope
        self.features = features
        self.channels = channels
        self.parameters = parameters

    def generalized_sum(
        self, config: GSPConfig, plan: SolverPlan, outputs: Collection[str]
    ) -> dict[str, ir.Value]:
        embeddings, locations = self._embed_locations(), self._locations()
        scores = self._scores(embeddings, config.entropy_weight)
        weights = self._mixing_weights(scores, config, plan)
        pooled = self._pool(config.pooling, embeddings, locations, weights)
        if config.max_residual:
            pooled = self._with_max_residual(pooled, locations)
        found = {"embedding": pooled}
        if "attributes" in outputs:
            found["attributes"] = self._attributes(scores, weights)
        if "weights" in outputs:
            found["weights"] = self._weight_map(weights)
        return found

    def _mixing_weights(
        self, scores: ir.Value, config: GSPConfig, plan: SolverPlan
    ) -> ir.Value | None:
        """Return the weights `(B, 1, N)`, or None where everything is kept."""
        if config.transport_ratio == 1:
            return None
        return mixing_weights(
            self.graph,
            self._log_mass(scores, config.entropy_weight),
            config.transport_ratio,
            plan.solver,
            plan.steps,
            config.initial_scale or config.transport_ratio,
        )

    def baseline(self, config: BaselineConfig) -> ir.Value:
        locations = self._locations()
        if config.pooling == "gap+gmp":
            mean = self.graph.reduce(
                "ReduceMean", locations, LOCATIONS, name="mean", keepdims=False
            )
            peak = self.graph.reduce("ReduceMax", locations, LOCATIONS, name="max", keepdims=False)
            return self._embed_vector(self.graph.op("Add", mean, peak, name="mean_and_max"))
        if config.pooling == "gap":
            mean = self.graph.reduce(
                "ReduceMean", locations, LOCATIONS, name="mean", keepdims=False
            )
            return self._embed_vector(mean)
        return self._pool_features(config.pooling, locations, None)

    def _embed_locations(self) -> ir.Value:
        """Return f = W x + b, float32 `(B, D, N)`, from a product in the features' precision."""
        weight = self.parameters.embed_weight
        inputs = [self.features, self._like_features("embed_kernel", weight[:, :, None, None])]
        if self.parameters.embed_bias is not None:
            inputs.append(self._like_features("embed_bias", self.parameters.embed_bias))
        maps = self.graph.op("Conv", *inputs, name="embed", kernel_shape=[1, 1])
        return self._flatten(maps, len(weight), "embeddings")

    def _locations(self) -> ir.Value:
        """Return the backbone's features, float32 `(B, C, N)`."""
        return self._flatten(self.features, self.channels, "locations")

    def _flatten(self, maps: ir.Value, channels: int, name: str) -> ir.Value:
        shape = self.graph.constant(f"{name}_shape", np.array([0, channels, -1], dtype=np.int64))
        flat = self.graph.op("Reshape", maps, shape, name=name)
        if self.features.dtype in (None, ir.DataType.FLOAT):
            return flat
        return self.graph.op("Cast", flat, name=f"{name}_float", to=int(ir.DataType.FLOAT))

    def _scores(self, embeddings: ir.Value, entropy_weight: float) -> ir.Value:
        """Return -gamma c, `(B, M, N)`.

        The product is a convolution: TensorRT-RTX has no float32 matrix product for Turing.
        """
        graph, constant = self.graph, self.graph.constant
        unit = _inside_unit_ball(self.parameters.prototypes)
        one = constant("one", 1.0)
        square = graph.reduce("ReduceSumSquare", embeddings, CHANNELS, name="square")
        norm = graph.op("Sqrt", graph.op("Max", square, one, name="outer_square"), name="norm")
        twice = constant("prototypes", (-2 * unit).astype(np.float32)[:, :, None])
        product = graph.op("Conv", embeddings, twice, name="product", kernel_shape=[1])
        product = graph.op("Div", product, norm, name="scaled_product")
        inner = graph.op("Min", square, one, name="inner_square")
        lengths = constant("prototype_square", np.square(unit).sum(1)[:, None].astype(np.float32))
        summed = graph.op(
            "Add", graph.op("Add", product, inner, name="partial"), lengths, name="sum"
        )
        squared = graph.op("Max", summed, constant("zero", 0.0), name="squared_cost")
        cost = graph.op("Sqrt", squared, name="cost")
        return graph.op("Mul", cost, constant("negative_gamma", -entropy_weight), name="scores")

    def _log_mass(self, scores: ir.Value, entropy_weight: float) -> ir.Value:
        """Return logsumexp over prototypes, `(B, 1, N)`.

        Scores are in [-2 gamma, 0]: nothing overflows, and where nothing can vanish either the
        maximum need not be subtracted.
        """
        graph = self.graph
        if entropy_weight <= LARGEST_PLAIN_ENTROPY_WEIGHT:
            mass = graph.reduce(
                "ReduceSum", graph.op("Exp", scores, name="exp"), CHANNELS, name="mass"
            )
            return graph.op("Log", mass, name="log_mass")
        peak = graph.reduce("ReduceMax", scores, CHANNELS, name="peak_score")
        exponentials = graph.op("Exp", graph.op("Sub", scores, peak, name="below_peak"), name="exp")
        total = graph.reduce("ReduceSum", exponentials, CHANNELS, name="mass_below_peak")
        return graph.op("Add", graph.op("Log", total, name="log"), peak, name="log_mass")

    def _pool(
        self,
        pooling: str,
        embeddings: ir.Value,
        locations: ir.Value,
        weights: ir.Value | None,
    ) -> ir.Value:
        if pooling != "gap":
            return self._pool_features(pooling, locations, weights)
        weighted = self._weighted(embeddings, weights)
        return self.graph.reduce("ReduceMean", weighted, LOCATIONS, name="pooled", keepdims=False)

    def _pool_features(
        self, pooling: str, locations: ir.Value, weights: ir.Value | None
    ) -> ir.Value:
        """Pool the backbone's features first and embed the result, as `gmp` and `gem` do."""
        weighted = self._weighted(locations, weights)
        if pooling == "gmp":
            peak = self.graph.reduce(
                "ReduceMax", weighted, LOCATIONS, name="pooled", keepdims=False
            )
            return self._embed_vector(peak)
        return self._embed_vector(self._generalised_mean(weighted))

    def _weighted(self, values: ir.Value, weights: ir.Value | None) -> ir.Value:
        return values if weights is None else self.graph.op("Mul", values, weights, name="weighted")

    def _generalised_mean(self, values: ir.Value) -> ir.Value:
        """Return the p-mean over locations, scaled by the peak where powers could overflow."""
        graph, constant, power = self.graph, self.graph.constant, self.parameters.power
        assert power is not None
        floored = graph.op("Max", values, constant("gem_floor", GEM_FLOOR), name="floored")
        if power <= LARGEST_PLAIN_POWER:
            return self._power_mean(floored, power, "pooled", keepdims=False)
        peak = graph.reduce("ReduceMax", floored, LOCATIONS, name="peak")
        relative = graph.op("Div", floored, peak, name="relative")
        root = self._power_mean(relative, power, "root", keepdims=True)
        shape = constant("pooled_shape", np.array([0, self.channels], dtype=np.int64))
        return graph.op("Reshape", graph.op("Mul", root, peak, name="gem"), shape, name="pooled")

    def _power_mean(self, values: ir.Value, power: float, name: str, keepdims: bool) -> ir.Value:
        """Return (mean_i v_i^p)^(1/p)."""
        graph, constant = self.graph, self.graph.constant
        raised = graph.op("Pow", values, constant("power", power), name="raised")
        mean = graph.reduce("ReduceMean", raised, LOCATIONS, name="mean_power", keepdims=keepdims)
        return graph.op("Pow", mean, constant("inverse_power", 1 / power), name=name)

    def _embed_vector(self, pooled: ir.Value) -> ir.Value:
        """Return W v + b for `(B, C)`, in float32."""
        inputs = [pooled, self.graph.constant("embed_weight", self.parameters.embed_weight)]
        if self.parameters.embed_bias is not None:
            inputs.append(self.graph.constant("embed_bias_float", self.parameters.embed_bias))
        return self.graph.op("Gemm", *inputs, name="embed_pooled", transB=1)

    def _with_max_residual(self, embedding: ir.Value, locations: ir.Value) -> ir.Value:
        """Return the embedding plus W . max_i x_i, in one product."""
        graph = self.graph
        peak = graph.reduce("ReduceMax", locations, LOCATIONS, name="max_residual", keepdims=False)
        weight = graph.constant("embed_weight", self.parameters.embed_weight)
        return graph.op("Gemm", peak, weight, embedding, name="embed_residual", transB=1)

    def _attributes(self, scores: ir.Value, weights: ir.Value | None) -> ir.Value:
        """Return the soft assignments averaged with the mixing weights, `(B, M)`."""
        graph = self.graph
        assigned = graph.op("Softmax", scores, name="assignments", axis=CHANNELS)
        if weights is None:
            return graph.reduce(
                "ReduceMean", assigned, LOCATIONS, name="attributes", keepdims=False
            )
        shares = graph.op("Mul", assigned, weights, name="weighted_assignments")
        summed = graph.reduce("ReduceSum", shares, LOCATIONS, name="attribute_mass", keepdims=False)
        total = graph.reduce("ReduceSum", weights, LOCATIONS, name="kept_mass", keepdims=False)
        return graph.op("Div", summed, total, name="attributes")

    def _weight_map(self, weights: ir.Value | None) -> ir.Value:
        """Return the mixing weights as `(B, H, W)`."""
        graph = self.graph
        sizes = self.features.shape[2:] if self.features.shape is not None else ()
        if weights is not None and sizes and all(isinstance(size, int) for size in sizes):
            fixed = graph.constant("map_shape", np.array([0, *sizes], dtype=np.int64))
            return graph.op("Reshape", weights, fixed, name="weight_map")
        shape = graph.op("Shape", self.features, name="feature_shape")
        kept = graph.constant("map_axes", np.array([0, 2, 3], dtype=np.int64))
        shape = graph.op("Gather", shape, kept, name="map_shape")
        if weights is None:
            return graph.op("Expand", graph.constant("one", 1.0), shape, name="weight_map")
        return graph.op("Reshape", weights, shape, name="weight_map")

    def _like_features(self, name: str, array: np.ndarray) -> ir.Value:
        """Return a constant in the features' precision."""
        dtype = self.features.dtype or ir.DataType.FLOAT
        return self.graph.constant(name, as_type(array, dtype, f"{HEAD_SCOPE}/{name}"))


def unit_prototypes(kernel: np.ndarray) -> np.ndarray:
    """Return the prototypes inside the unit ball, `(M, D)`, that `PROTOTYPE_KERNEL` was made of."""
    return kernel.reshape(len(kernel), -1) / np.float32(-2)  # exact: a power of two


def _inside_unit_ball(vectors: np.ndarray | None) -> np.ndarray:
    assert vectors is not None
    precise = vectors.astype(np.float64)
    return precise / np.maximum(1, np.linalg.norm(precise, axis=1, keepdims=True))


def _l2_normalise(graph: GraphScope, embedding: ir.Value) -> ir.Value:
    norm = graph.reduce("ReduceL2", embedding, CHANNELS, name="embedding_norm")
    floored = graph.op("Max", norm, graph.constant("norm_floor", NORM_FLOOR), name="floored_norm")
    return graph.op("Div", embedding, floored, name="embedding")
