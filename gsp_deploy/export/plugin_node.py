"""A graph pass that replaces the unrolled pooling by one node; the replaced nodes are its body.

1. The node takes the 1x1 embedding's result and the prototypes; with gmp and gem the features too.
2. It ends at the pooled vector, or after the L2 normalisation if that follows directly.
3. Everything between becomes the body of an ONNX function of the node's own name, node by node, so
   that a runtime without the plugin computes exactly the same. Constants go into the body.
4. The unrolled form stores the prototypes times -2 as a kernel; the node gets the plain prototypes.
5. Nodes that the rest of the graph also needs stay in the graph as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gsp_deploy.artifact import ExportManifest
from gsp_deploy.artifact.pooling_node import (
    DOMAIN,
    DOMAIN_VERSION,
    OP_TYPE,
    PoolingAttributes,
    PoolingForm,
    check_foldable,
)
from gsp_deploy.artifact.tensors import CERTIFICATES
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export.costs import PROTOTYPE_KERNEL, UNIT_PROTOTYPES, unit_prototypes
from gsp_deploy.export.graph import HEAD_SCOPE, GraphScope
from gsp_deploy.export.lowering import LOW_PRECISION
from gsp_deploy.export.plugin_body import PluginBody
from gsp_deploy.export.transport import SolverPlan

NODE_NAME = "pooling"


def fold_pooling(network: ir.Model, manifest: ExportManifest, form: PoolingForm) -> None:
    """Rewrite an unrolled export in place so that its pooling is one node.

    Args:
        network: the graph; its pooling nodes have the names `gsp/...` that `write_head` gives them.
        manifest: its manifest, with the head's settings and the unrolled solver.
        form: `plugin`, or `plugin-bare` for the node without its body.

    Raises:
        UsageError: the head has no transport.
        ModelFileError: the graph does not contain the pooling nodes that `write_head` writes.
    """
    check_foldable(manifest.model)
    head, certificate = manifest.model.head, manifest.certificate
    assert isinstance(head, GSPConfig)
    assert certificate is not None  # a head with transport always has one
    plan = SolverPlan(certificate.solver, certificate.steps, certificate.grid_points)
    Folding(network, head, plan, [output.name for output in manifest.outputs]).run()
    if form == "plugin-bare":
        drop_body(network)


def drop_body(network: ir.Model) -> None:
    """Remove the function: only without it does TensorRT 10.3 map the node to a plugin."""
    for key in [key for key in network.functions if key[0] == DOMAIN]:
        del network.functions[key]


@dataclass(frozen=True)
class _Ends:
    """The values that the node computes, by its own names for them."""

    pooled: ir.Value
    weights: ir.Value | None
    attributes: ir.Value | None
    residual: ir.Value | None = None
    embedding_bound: ir.Value | None = None

    @property
    def values(self) -> dict[str, ir.Value]:
        """Return the values that exist, in the order of the node's outputs."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Folding:
    """Folds one head of a network.

    Args:
        network: the graph.
        head: the head's settings.
        plan: the solver that the graph unrolls.
        outputs: names of the graph's outputs.
        root: the scope of the head's nodes.
    """

    def __init__(
        self,
        network: ir.Model,
        head: GSPConfig,
        plan: SolverPlan,
        outputs: Collection[str],
        root: str = HEAD_SCOPE,
    ) -> None:
        self.network = network
        self.graph = network.graph
        self.head = head
        self.plan = plan
        self.outputs = outputs
        self.root = root
        prefix = f"{root}/"
        self.nodes = {
            node.name.removeprefix(prefix): node
            for node in self.graph
            if node.name and node.name.startswith(prefix)
        }

    def run(self) -> None:
        """Replace the head's pooling by one node whose body it becomes."""
        embeddings, prototypes = self._result_of("embed"), self._prototypes()
        ends, output_type = self._ends()
        inputs = {"embeddings": embeddings, "prototypes": prototypes}
        if self.head.pooling != "gap":
            convolution = embeddings.producer()
            assert convolution is not None
            features = convolution.inputs[0]
            assert features is not None
            inputs["features"] = features
        body = PluginBody(self.network, inputs, self.root).of(ends.values)
        settings = self._attributes(ends, output_type).to_node()
        declared = [ir.Attr(name, ir.convenience.convert_attribute(name, value).type, None)
                    for name, value in settings.items()]  # fmt: skip
        function = ir.Function(DOMAIN, OP_TYPE, graph=body, attributes=declared)
        self.network.functions[function.identifier()] = function
        self.network.opset_imports[DOMAIN] = DOMAIN_VERSION
        self._call(inputs, ends, settings)
        passes.RemoveUnusedNodesPass()(self.network)

    def _prototypes(self) -> ir.Value:
        constants = self.graph.initializers
        name = f"{self.root}/const/{PROTOTYPE_KERNEL}"
        scaled = constants.get(name)
        if scaled is None or scaled.const_value is None:
            raise ModelFileError(f"the graph has no constant {name}; export the checkpoint again")
        if found := constants.get(f"{self.root}/const/{UNIT_PROTOTYPES}"):
            return found
        unit = unit_prototypes(scaled.const_value.numpy())  # of a file of an earlier version
        return GraphScope(self.graph, self.root, self.root).constant(UNIT_PROTOTYPES, unit)

    def _ends(self) -> tuple[_Ends, str]:
        """Return the values that the node ends at, after the graph's final casts, and their type.

        All outputs have one type, except the certificates, which stay float32. So the node
        includes the casts only if every other output has one.
        """
        ends = _Ends(
            self._pooled(),
            self._weights(),
            self._output("attributes", "attributes"),
            *(() if self._adds_max_residual else map(self._certificate, CERTIFICATES)),
        )
        casts = {n: _only_cast(v) for n, v in ends.values.items() if n not in CERTIFICATES}
        types = {None if cast is None else cast.dtype for cast in casts.values()}
        for word, dtype in LOW_PRECISION.items():
            if types == {dtype}:
                lowered = {name: cast for name, cast in casts.items() if cast is not None}
                return replace(ends, **lowered), word
        return ends, "fp32"

    @property
    def _adds_max_residual(self) -> bool:
        """Whether the certificates describe a vector that the node does not return."""
        return self.head.pooling == "gap" and self.head.max_residual

    def _weights(self) -> ir.Value | None:
        """Return the map of weights if it is an output, or if the certificates need it."""
        if self._adds_max_residual and "solved_weights" in self.nodes:
            return self._result_of("weight_map")
        return self._output("weights", "weight_map")

    def _certificate(self, name: str) -> ir.Value | None:
        return self._output(name, name)

    @property
    def _normalises(self) -> bool:
        """Whether the L2 normalisation follows the pooling itself."""
        return self.head.normalize and self.head.pooling == "gap" and not self.head.max_residual

    def _pooled(self) -> ir.Value:
        return self._result_of("embedding" if self._normalises else "pooled")

    def _output(self, name: str, node: str) -> ir.Value | None:
        return self._result_of(node) if name in self.outputs else None

    def _result_of(self, name: str) -> ir.Value:
        """Return the value that a node of the head computes, whichever name it has as an output."""
        if name not in self.nodes:
            raise ModelFileError(
                f"the graph has no node {self.root}/{name}: its pooling is not as this version "
                "writes it; export the checkpoint again"
            )
        return self.nodes[name].outputs[0]

    def _attributes(self, ends: _Ends, output_type: str) -> PoolingAttributes:
        power = self.graph.initializers.get(f"{self.root}/const/power")
        gem_power = {} if power is None or power.const_value is None else {
            "power": float(power.const_value.numpy())
        }  # fmt: skip
        return PoolingAttributes(
            pooling=self.head.pooling,
            solver=self.plan.solver,
            iterations=self.plan.steps,
            grid_points=self.plan.grid_points,
            transport_ratio=self.head.transport_ratio,
            entropy_weight=self.head.entropy_weight,
            initial_scale=self.head.initial_scale or 0.0,
            normalize=int(self._normalises),
            output_weights=int(ends.weights is not None),
            output_attributes=int(ends.attributes is not None),
            output_residual=int(ends.residual is not None),
            output_type=output_type,
            **gem_power,
        )

    def _call(
        self, inputs: dict[str, ir.Value], ends: _Ends, settings: dict[str, int | float | str]
    ) -> None:
        """Insert the node after the first replaced node that no later input depends on."""
        replaced = list(ends.values.values())
        node = ir.node(
            OP_TYPE,
            list(inputs.values()),
            attributes=settings,
            domain=DOMAIN,
            num_outputs=len(replaced),
            name=f"{self.root}/{NODE_NAME}",
        )
        convolution = inputs["embeddings"].producer()
        assert convolution is not None
        self.graph.insert_after(convolution, node)
        for old, new in zip(replaced, node.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            old.name = f"{old.name}/unrolled"
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def _only_cast(value: ir.Value) -> ir.Value | None:
    """Return the result of the Cast that is the only user of a value, if there is one."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != "Cast":
        return None
    return uses[0].node.outputs[0]
