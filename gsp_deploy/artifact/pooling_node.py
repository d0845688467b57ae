"""Describe the one-node pooling `gsp.deploy::GeneralizedSumPooling`, and unfold it to its body.

The node takes the 1x1 embedding's result and does the transport and the pooling:

    inputs      embeddings (B, D, H, W); prototypes (M, D), float32, inside the unit ball;
                with gmp and gem also the backbone's features (B, C, H, W)
    outputs     pooled (B, D), with gmp and gem (B, C); then weights (B, H, W),
                attributes (B, M), residual (B,) and with gap embedding_bound (B,), if its
                attributes ask for them

The operators after the pooling of features, and the max residual, stay ordinary operators. The
function of the same name in the file contains the unrolled form. A runtime that has no kernel for
the node runs that form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from gsp_deploy.base.choices import PoolingForm
from gsp_deploy.config import GSPConfig, ModelConfig
from gsp_deploy.errors import UsageError

if TYPE_CHECKING:
    import onnx

POOLING_FORMS: tuple[str, ...] = get_args(PoolingForm)

# An export gives this prefix to every node of the pooling head, including the one node.
HEAD_PREFIX = "gsp/"

DOMAIN = "gsp.deploy"
OP_TYPE = "GeneralizedSumPooling"
DOMAIN_VERSION = 1
# The plugin's namespace and version in TensorRT's registry. Parsers read both from the node.
PLUGIN_NAMESPACE = DOMAIN
PLUGIN_VERSION = "1"

Attribute = int | float | str


@dataclass(frozen=True)
class PoolingAttributes:
    """The node's settings, under the names and words that `plugins/gsp_pooling` reads.

    Attributes:
        pooling: `gap`, `gmp` or `gem`.
        solver: `certified`, `newton` or `fixed-point`.
        iterations: solver steps.
        grid_points: points of the sweep of `certified`; 0 for the others.
        transport_ratio, entropy_weight: mu below 1, and gamma.
        initial_scale: t(0) of the fixed-point iteration; 0 means mu.
        power: p of `gem`.
        normalize: 1 to L2-normalise `pooled`; only with `gap`.
        output_weights, output_attributes: 1 to return that output.
        output_residual: 1 to return `residual` and, with `gap`, `embedding_bound`, in float32.
        output_type: element type of the other outputs: `fp32`, `fp16` or `bf16`.
    """

    pooling: str
    solver: str
    iterations: int
    transport_ratio: float
    entropy_weight: float
    grid_points: int = 0
    initial_scale: float = 0.0
    power: float = 3.0
    normalize: int = 0
    output_weights: int = 0
    output_attributes: int = 0
    output_residual: int = 0
    output_type: str = "fp32"

    def to_node(self) -> dict[str, Attribute]:
        """Return all attributes of the node, including those that parsers choose the plugin by."""
        return {
            **vars(self),
            "plugin_namespace": PLUGIN_NAMESPACE,
            "plugin_version": PLUGIN_VERSION,
        }


def check_foldable(config: ModelConfig) -> None:
    """Raise `UsageError` if a plugin has no advantage for a model's pooling."""
    head = config.head
    if not isinstance(head, GSPConfig):
        raise UsageError(f"a model with {head.in_words} needs no plugin; leave --pooling out")
    if head.transport_ratio == 1:
        raise UsageError(
            "a transport ratio of 1 keeps everything, which is plain pooling and needs no plugin; "
            "leave --pooling out"
        )


def expand_pooling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the pooling node by its body, in place; models without a body stay as they are.

    The body's values get their names from the unrolled export. Nodes that the graph also has
    outside the pooling node (the common inputs of pooling and max residual) are written once.
    """
    bodies = {f.name: f for f in model.functions if f.domain == DOMAIN}
    nodes = list(model.graph.node)
    if not any(node.domain == DOMAIN and node.op_type in bodies for node in nodes):
        return model
    known = {weight.name for weight in model.graph.initializer}
    expanded: list[onnx.NodeProto] = []
    for node in nodes:
        is_pooling = node.domain == DOMAIN and node.op_type in bodies
        for written in _body(bodies[node.op_type], node) if is_pooling else (node,):
            if not known.issuperset(written.output):
                expanded.append(written)
                known.update(written.output)
    del model.graph.node[:]
    model.graph.node.extend(expanded)
    _forget_domain(model)
    return model


def _body(function: onnx.FunctionProto, call: onnx.NodeProto) -> list[onnx.NodeProto]:
    names = dict(zip(function.input, call.input, strict=False))
    names |= dict(zip(function.output, call.output, strict=False))
    return [_renamed(node, names) for node in function.node]


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy


def _forget_domain(model: onnx.ModelProto) -> None:
    for entries in (model.functions, model.opset_import):
        kept = [entry for entry in entries if entry.domain != DOMAIN]
        del entries[:]
        entries.extend(kept)
