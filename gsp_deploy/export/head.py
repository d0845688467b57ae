"""Write the pooling head as ONNX operators; everything constant at inference is folded.

Maps are `(B, channels, H, W)` and the mixing weights `(B, 1, H, W)`, so nothing is reshaped between
the backbone's features and the pooled vector. Everything is float32, except that the 1x1 embedding
of the maps computes in the features' precision.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gsp_deploy.base.constants import NORM_FLOOR
from gsp_deploy.config import BaselineConfig, GSPConfig
from gsp_deploy.export.costs import write_lengths, write_log_mass, write_scores
from gsp_deploy.export.graph import CHANNELS, HEAD_SCOPE, LOCATIONS, GraphScope
from gsp_deploy.export.later import Later, Numbers, computed
from gsp_deploy.export.lowering import as_type
from gsp_deploy.export.pooling import average, embed_vector, peak, write_pooling
from gsp_deploy.export.residual import ResidualWriter, write_no_residual
from gsp_deploy.export.transport import SolverPlan, mixing_weights


@dataclass(frozen=True)
class HeadParameters:
    """A pooling head's trained numbers in float32, which the graph needs besides the config.

    `embed_weight (D, C)`, `embed_bias (D,)` or None, `prototypes (M, D)` or None, `power`.
    """

    embed_weight: np.ndarray
    embed_bias: np.ndarray | None
    prototypes: np.ndarray | None = None
    power: float | None = None


@dataclass(frozen=True)
class LaterParameters:
    """The same numbers in a translation of PyTorch's exporter, which knows them only later."""

    embed_weight: Later
    embed_bias: Later | None
    prototypes: Later
    power: Later | None


def write_head(
    graph: ir.Graph,
    features: ir.Value,
    config: GSPConfig | BaselineConfig,
    parameters: HeadParameters | LaterParameters,
    plan: SolverPlan,
    outputs: Collection[str] = (),
    root: str = HEAD_SCOPE,
) -> dict[str, ir.Value]:
    """Append the head to `graph` and return its outputs by name.

    Nodes that a mode does not use are written too, and removed later as unused nodes.

    Args:
        graph: receives nodes and constants.
        features: `(B, C, H, W)` in the backbone's precision.
        config: what the head computes.
        parameters: its trained numbers.
        plan: how the transport is solved.
        outputs: any of `attributes`, `weights` and `residual`, besides `embedding`. With `gap`,
            `residual` also adds `embedding_bound`.
        root: the scope of this head's nodes and constants, if the graph has several heads.
    """
    scope = GraphScope(graph, root, root)
    writer = _HeadWriter(scope, features, parameters)
    if isinstance(config, BaselineConfig):
        found = {"embedding": writer.baseline(config)}
    else:
        found = writer.generalized_sum(config, plan, outputs)
    if config.normalize:
        norm = writer.floored_norm(found["embedding"])
        found["embedding"] = scope.op("Div", found["embedding"], norm, name="embedding")
    return found


class _HeadWriter:
    """The state of one head while it is written: graph, input, and constants of the parameters."""

    def __init__(
        self, scope: GraphScope, features: ir.Value, parameters: HeadParameters | LaterParameters
    ) -> None:
        self.graph = scope
        self.features = features
        self.parameters = parameters
        self._norm: ir.Value | None = None

    def generalized_sum(
        self, config: GSPConfig, plan: SolverPlan, outputs: Collection[str]
    ) -> dict[str, ir.Value]:
        embeddings, features = self._embedded_maps(), self._as_float(self.features, "features")
        prototypes = self.parameters.prototypes
        assert prototypes is not None
        lengths = write_lengths(self.graph, embeddings)
        scores = write_scores(self.graph, embeddings, lengths, prototypes, config.entropy_weight)
        weights = self._mixing_weights(scores, config, plan)
        found = {"embedding": self._pooled(config, embeddings, features, weights)}
        if "attributes" in outputs:
            found["attributes"] = self._attributes(scores, weights)
        if "weights" in outputs:
            found["weights"] = self._weight_map(weights)
        if "residual" in outputs:
            found |= self._residual(config, weights, lengths, found)
        return found

    def baseline(self, config: BaselineConfig) -> ir.Value:
        features, power = self._as_float(self.features, "features"), self.parameters.power
        if config.pooling == "gap+gmp":
            mean, largest = average(self.graph, features, "mean"), peak(self.graph, features, "max")
            return self._embed(self.graph.op("Add", mean, largest, name="mean_and_max"))
        return self._embed(write_pooling(self.graph, config.pooling, features, power=power))

    def _mixing_weights(
        self, scores: ir.Value, config: GSPConfig, plan: SolverPlan
    ) -> ir.Value | None:
        """Return the weights `(B, 1, H, W)`, or None if all mass is kept."""
        if config.transport_ratio == 1:
            return None
        return mixing_weights(
            self.graph,
            write_log_mass(self.graph, scores, config.entropy_weight),
            config.transport_ratio,
            plan,
            config.initial_scale or config.transport_ratio,
        )

    def floored_norm(self, vector: ir.Value) -> ir.Value:
        """Return the length of the head's vector `(B, D)`, at least `NORM_FLOOR`, `(B, 1)`."""
        if self._norm is None:
            floor = self.graph.constant("norm_floor", NORM_FLOOR)
            norm = self.graph.reduce("ReduceL2", vector, CHANNELS, name="embedding_norm")
            self._norm = self.graph.op("Max", norm, floor, name="floored_norm")
        return self._norm

    def _embedded_maps(self) -> ir.Value:
        """Return f = W x + b, float32 `(B, D, H, W)`, from a product in the features' precision."""
        dtype = self.features.dtype or ir.DataType.FLOAT
        inputs = [self.features, self._kernel("embed_kernel", dtype)]
        if self.parameters.embed_bias is not None:
            inputs.append(self._constant("embed_bias", self.parameters.embed_bias, dtype))
        maps = self.graph.op("Conv", *inputs, name="embed", kernel_shape=[1, 1])
        return self._as_float(maps, "embeddings")

    def _as_float(self, maps: ir.Value, name: str) -> ir.Value:
        if self.features.dtype in (None, ir.DataType.FLOAT):
            return maps
        return self.graph.op("Cast", maps, name=f"{name}_float", to=int(ir.DataType.FLOAT))

    def _pooled(
        self,
        config: GSPConfig,
        embeddings: ir.Value,
        features: ir.Value,
        weights: ir.Value | None,
    ) -> ir.Value:
        """Return the embedding before its normalisation, `(B, D)`.

        `gap` pools embeddings; `gmp` and `gem` pool features and embed the pooled vector. There
        the max residual W . max_i x_i shares that product; with `gap` it has a separate one.
        """
        graph, of_embeddings = self.graph, config.pooling == "gap"
        maps = embeddings if of_embeddings else features
        pooled = write_pooling(graph, config.pooling, maps, weights, self.parameters.power)
        if config.max_residual:
            residual = peak(graph, features, "max_residual")
            if of_embeddings:
                residual = self._embed(residual, "embed_residual", with_bias=False)
            pooled = graph.op("Add", pooled, residual, name="with_max_residual")
        return pooled if of_embeddings else self._embed(pooled)

    def _embed(
        self, vector: ir.Value, name: str = "embed_pooled", with_bias: bool = True
    ) -> ir.Value:
        """Return W v + b for `(B, C)`, in float32."""
        kernel, bias = self._kernel("vector_kernel", ir.DataType.FLOAT), None
        if with_bias and self.parameters.embed_bias is not None:
            bias = self.graph.constant("vector_bias", self.parameters.embed_bias)
        return embed_vector(self.graph, vector, kernel, bias, name)

    def _attributes(self, scores: ir.Value, weights: ir.Value | None) -> ir.Value:
        """Return the soft assignments averaged with the mixing weights, `(B, M)`."""
        graph = self.graph
        assigned = graph.op("Softmax", scores, name="assignments", axis=CHANNELS[0])
        if weights is None:
            return average(graph, assigned, "attributes")
        shares = graph.op("Mul", assigned, weights, name="weighted_assignments")
        summed = graph.reduce("ReduceSum", shares, LOCATIONS, name="attribute_mass", keepdims=False)
        total = graph.reduce("ReduceSum", weights, LOCATIONS, name="kept_mass", keepdims=False)
        return graph.op("Div", summed, total, name="attributes")

    def _residual(
        self,
        config: GSPConfig,
        weights: ir.Value | None,
        lengths: ir.Value,
        found: dict[str, ir.Value],
    ) -> dict[str, ir.Value]:
        """Return the weights' error `(B,)` and, with `gap`, the bound on the embedding `(B,)`."""
        names = ("residual", "embedding_bound") if config.pooling == "gap" else ("residual",)
        if weights is None:
            return {name: write_no_residual(self.graph, self.features, name) for name in names}
        if config.pooling == "gap" and config.max_residual:
            # Use the map that a plugin's node returns: the node ends before the max residual.
            weight_map = found["weights"] if "weights" in found else self._weight_map(weights)
            channel = self.graph.axes(CHANNELS)
            weights = self.graph.op("Unsqueeze", weight_map, channel, name="solved_weights")
        writer = ResidualWriter(self.graph, weights)
        certificates = {"residual": writer.residual}
        if config.pooling == "gap":
            norm = self.floored_norm(found["embedding"])
            certificates["embedding_bound"] = writer.embedding_bound(lengths, norm)
        return certificates

    def _weight_map(self, weights: ir.Value | None) -> ir.Value:
        """Return the mixing weights as `(B, H, W)`."""
        graph = self.graph
        if weights is not None:
            squeezed = graph.op("Squeeze", weights, graph.axes(CHANNELS), name="weight_map")
            if self.features.shape is not None:  # inference loses open sizes at a convolution
                batch, _, height, width = self.features.shape
                squeezed.shape = ir.Shape([batch, height, width])
                squeezed.dtype = ir.DataType.FLOAT
            return squeezed
        shape = graph.op("Shape", self.features, name="feature_shape")
        kept = graph.constant("map_axes", np.array([0, *LOCATIONS], dtype=np.int64))
        shape = graph.op("Gather", shape, kept, name="map_shape")
        return graph.op("Expand", graph.constant("one", 1.0), shape, name="weight_map")

    def _kernel(self, name: str, dtype: ir.DataType) -> ir.Value:
        """Return W as the kernel `(D, C, 1, 1)` of a convolution."""
        kernel = computed(lambda weight: weight[:, :, None, None], self.parameters.embed_weight)
        return self._constant(name, kernel, dtype)

    def _constant(self, name: str, numbers: Numbers, dtype: ir.DataType) -> ir.Value:
        path = f"{HEAD_SCOPE}/{name}"
        return self.graph.constant(name, computed(lambda x: as_type(x, dtype, path), numbers))
