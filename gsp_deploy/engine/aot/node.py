"""The pooling node rewritten for the Python plugin that TensorRT embeds ahead of time.

TensorRT's Python plugins have a fixed number of tensors each and no dots in their namespaces, so
there is one for each variant, and the node of a model is taken to the one that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from gsp_deploy.errors import UsageError
from gsp_deploy.export.model_file import EXTERNAL_DATA_BYTES, weight_bytes
from gsp_deploy.pooling_node import DOMAIN, OP_TYPE, PLUGIN_VERSION

NAMESPACE = "gsp_deploy"


@dataclass(frozen=True)
class Variant:
    """Which tensors the plugin has: features to pool, and attributes to write."""

    reads_features: bool
    writes_attributes: bool

    @property
    def name(self) -> str:
        """What the plugin is called."""
        source = "Features" if self.reads_features else "Embeddings"
        return f"Pooled{source}{'AndAttributes' if self.writes_attributes else ''}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that come in."""
        return ("embeddings", "prototypes", *(("features",) if self.reads_features else ()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that go out; weights always, the kernel works in their place."""
        return ("pooled", "weights", *(("attributes",) if self.writes_attributes else ()))


def retarget(source: Path, target: Path) -> Variant:
    """Write a model whose pooling is one node with that node for the Python plugin.

    Raises:
        UsageError: the model has no pooling node.
    """
    network = ir.load(source)
    nodes = [n for n in network.graph if (n.domain, n.op_type) == (DOMAIN, OP_TYPE)]
    if len(nodes) != 1:
        raise UsageError(
            f"{source}: its pooling is no plugin's node; export it with --pooling plugin, or "
            "build with --pooling plugin"
        )
    node = nodes[0]
    variant = Variant(len(node.inputs) == 3, bool(node.attributes["output_attributes"].as_int()))
    given = list(node.outputs)
    outputs = {"pooled": given.pop(0)}
    if node.attributes["output_weights"].as_int():
        outputs["weights"] = given.pop(0)
    if variant.writes_attributes:
        outputs["attributes"] = given.pop(0)
    _replace(network, node, variant, outputs)
    is_large = weight_bytes(network) > EXTERNAL_DATA_BYTES
    ir.save(network, target, external_data=f"{target.name}.data" if is_large else None)
    return variant


def _replace(
    network: ir.Model, node: ir.Node, variant: Variant, outputs: dict[str, ir.Value]
) -> None:
    """Put the plugin's node in the place of `node`, with all of the variant's outputs."""
    attributes = dict(node.attributes)
    attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", NAMESPACE)
    attributes["plugin_version"] = ir.AttrString("plugin_version", PLUGIN_VERSION)
    attributes["aot"] = ir.AttrInt64("aot", 1)
    fresh = ir.node(
        variant.name,
        list(node.inputs),
        attributes=attributes,
        domain=NAMESPACE,
        num_outputs=len(variant.outputs),
        name=node.name,
    )
    network.graph.insert_after(node, fresh)
    for name, value in zip(variant.outputs, fresh.outputs, strict=True):
        value.name = f"{node.name}/{name}"
        if name in outputs:
            old = outputs[name]
            value.name, value.type, value.shape = old.name, old.type, old.shape
            old.name = f"{old.name}/replaced"
            ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
    network.graph.remove(node, safe=True)
    network.opset_imports.pop(DOMAIN, None)
    network.opset_imports[NAMESPACE] = 1
    for key in [key for key in network.functions if key[0] == DOMAIN]:
        del network.functions[key]
