"""A draft holds the exported backbone and assembles graphs with different heads from it."""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

import gsp_deploy
from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.config import ModelConfig
from gsp_deploy.export.backbone import export_backbone, head_parameters
from gsp_deploy.export.graph import IR_VERSION, GraphScope
from gsp_deploy.export.head import HeadParameters, write_head
from gsp_deploy.export.lowering import FLOAT, LOW_PRECISION, lower_precision
from gsp_deploy.export.opset import downgrade_to_17
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.images.normalisation import affine
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.precision import PRECISIONS


class Draft:
    """A backbone exported once, and the head's parameters.

    Attributes:
        config: the model.
        options: how it is exported.
        parameters: the head's trained numbers.
        backbone: from `images (B, 3, H, W)` float32 to the feature map; never changed in place.
        kept: operators that a low precision left in float32, and why.
    """

    def __init__(self, model: EmbeddingModel, options: ExportOptions) -> None:
        self.config = model.config
        self.options = options
        self.parameters: HeadParameters = head_parameters(model.head)
        self.backbone: ir.Model = export_backbone(
            model, options.operator_set, options.dynamic_batch, options.dynamic_size
        )
        self.kept: dict[str, str] = {}
        if options.precision in LOW_PRECISION and not model.config.is_head_only:
            self.kept = lower_precision(
                self.backbone, options.precision, restore_outputs=self.head_precision is None
            )

    @property
    def head_precision(self) -> ir.DataType | None:
        """The low type of the 1x1 embedding; None for float32, or if Conv lacks it."""
        if self.options.operator_set < PRECISIONS[self.options.precision].conv_opset:
            return None
        return LOW_PRECISION.get(self.options.precision)

    @property
    def embeddings_name(self) -> str:
        """The value inside the head that holds the per-location embeddings in float32."""
        return "gsp/embed" if self.head_precision is None else "gsp/embeddings_float"

    @property
    def prototypes(self) -> np.ndarray:
        """The prototypes p `(M, D)` of a GSP head."""
        assert self.parameters.prototypes is not None
        return self.parameters.prototypes

    def variant(self, backbone: ir.Model, options: ExportOptions | None = None) -> Draft:
        """Return the same head on another form of the backbone, or under other options."""
        other = copy.copy(self)
        other.backbone, other.options = backbone, options or self.options
        return other

    def assemble(
        self, plan: SolverPlan, outputs: tuple[str, ...], extra: tuple[str, ...] = ()
    ) -> ir.Model:
        """Return a fresh model with the head appended; `extra` names inner values to expose."""
        network = self.backbone.clone()
        graph = network.graph
        features = self._features(graph)
        del graph.outputs[:]
        found = write_head(
            graph, features, self.config.trained_head, self.parameters, plan, outputs
        )
        if self.options.include_preprocessing and not self.config.is_head_only:
            prepend_preprocessing(graph, self.config)
        for name in dict.fromkeys(("embedding", *outputs, *found)):
            graph.outputs.append(as_output(graph, found[name], name, self.options))
        graph.outputs.extend(_value(graph, name) for name in extra)
        finish(network, self.options)
        return network

    def _features(self, graph: ir.Graph) -> ir.Value:
        features = graph.outputs[0]
        if not self.config.is_head_only or self.head_precision is None:
            return features
        return _cast(graph, features, self.head_precision, "features_low")


def as_output(graph: ir.Graph, value: ir.Value, name: str, options: ExportOptions) -> ir.Value:
    """Return a float32 value as an output of this name, in the element type of the outputs."""
    low = None if name in CERTIFICATES else LOW_PRECISION.get(options.io_precision)
    if low is not None:
        if value.name == name:
            value.name = f"{name}/float"
        value = _cast(graph, value, low, name)
    value.name = name
    value.dtype = low or FLOAT
    return value


def prepend_preprocessing(graph: ir.Graph, config: ModelConfig) -> None:
    """Make the graph take uint8 `(B, H, W, 3)`: cast, transpose, scale, shift."""
    assert config.preprocessing is not None
    normalised = graph.inputs[0]
    assert normalised.shape is not None
    batch, _, height, width = normalised.shape
    pixels = ir.Value(
        name="images",
        shape=ir.Shape([batch, height, width, 3]),
        type=ir.TensorType(ir.DataType.UINT8),
    )
    normalised.name = "normalised_images"
    scale, shift = (array.reshape(1, 3, 1, 1) for array in affine(config.preprocessing))
    scope = GraphScope(graph, "preprocessing")
    first = graph[0]
    tail = len(graph)
    value = scope.op("Cast", pixels, name="float", to=int(FLOAT))
    value = scope.op("Transpose", value, name="channels_first", perm=[0, 3, 1, 2])
    value = scope.op("Mul", value, scope.constant("pixel_scale", scale), name="scaled")
    value = scope.op("Add", value, scope.constant("pixel_shift", shift), name="shifted")
    value.dtype, value.shape = FLOAT, normalised.shape
    nodes = list(graph)[tail:]
    graph.remove(nodes)
    graph.insert_before(first, nodes)
    ir.convenience.replace_all_uses_with(normalised, value)
    graph.inputs[0] = pixels


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    result = GraphScope(graph, "io").op("Cast", value, name=name, to=int(dtype))
    result.dtype, result.shape = dtype, value.shape
    return result


def _value(graph: ir.Graph, name: str) -> ir.Value:
    for node in graph:
        for value in node.outputs:
            if value.name == name:
                return value
    raise KeyError(name)


def finish(network: ir.Model, options: ExportOptions) -> None:
    """Set input types and versions, remove unused nodes, and infer the remaining shapes."""
    low = LOW_PRECISION.get(options.io_precision)
    source = network.graph.inputs[0]
    if low is not None and source.dtype == FLOAT:
        _take_low_input(network.graph, source, low)
    passes.RemoveUnusedNodesPass()(network)
    network.producer_name, network.producer_version = "gsp-deploy", gsp_deploy.__version__
    network.ir_version = IR_VERSION
    if options.operator_set == 17:
        downgrade_to_17(network)
        passes.RemoveUnusedNodesPass()(network)
    passes.ShapeInferencePass()(network)


def _take_low_input(graph: ir.Graph, source: ir.Value, low: ir.DataType) -> None:
    source.type = ir.TensorType(low)  # a new type: copies of a graph share the old one
    widened = ir.node("Cast", [source], attributes={"to": int(FLOAT)}, name="io/images")
    widened.outputs[0].name = "io/images"
    widened.outputs[0].dtype, widened.outputs[0].shape = FLOAT, source.shape
    users = [use for use in source.uses() if use.node is not widened]
    graph.insert_before(graph[0], widened)
    for use in users:
        use.node.replace_input_with(use.idx, widened.outputs[0])
