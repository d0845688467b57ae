"""Translate the pooling operator in PyTorch's own exporter, in a network of any kind.

    torch.onnx.export(model, images, dynamo=True,
                      custom_translation_table=gsp_deploy.export.translations())

1. The layer is one operator, and its translation writes the head that `export_onnx` writes.
2. The exporter knows the weights only after that. So the solver is planned for any prototypes, and
   constants that depend on a weight are computed when the file is written.
3. With several layers, the names of the second start with `gsp/2/`, those of the third `gsp/3/`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript import evaluator

from gsp_deploy.artifact.tensors import OUTPUTS
from gsp_deploy.base.choices import Pooling
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.export.backbone import NATIVE_OPSET
from gsp_deploy.export.graph import HEAD_SCOPE, IR_VERSION, GraphScope
from gsp_deploy.export.head import LaterParameters, write_head
from gsp_deploy.export.later import weight_of
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.plan import NOTHING_TO_SOLVE, plan_without_images
from gsp_deploy.export.plugin_node import Folding, drop_body
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.layers.operator import torch_operator
from gsp_deploy.layers.residual import LARGEST_COSINE_DISTANCE
from gsp_deploy.layers.stages import PoolingSettings

OPERATOR = torch_operator()


@dataclass(frozen=True)
class TranslatedLayer:
    """A pooling layer that was translated.

    Attributes:
        root: the scope of its nodes.
        head: its settings.
        plan: the solver that was written.
        prototypes: the value with the prototypes as the model has them.
        outputs: names of the outputs that the network uses.
    """

    root: str
    head: GSPConfig
    plan: SolverPlan
    prototypes: ir.Value
    outputs: tuple[str, ...]


def translations(
    pooling: Pooling = "unrolled", options: ExportOptions | None = None
) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the `custom_translation_table` of `torch.onnx.export` for GSP layers.

    Args:
        pooling: `unrolled` into standard operators, or `plugin` for one node that only the plugin
            can run: the exporter inlines every function, so the node cannot have a body here.
            `gsp_deploy.export.export_onnx` writes it with its body.
        options: solver, iterations and tolerance; None is the certified solver.

    >>> table = translations()
    >>> [str(operator) for operator in table]
    ['gsp_deploy.generalized_sum_pooling.default']
    """
    return Translator(pooling, options or ExportOptions()).table


class Translator:
    """Translates each pooling layer of one network, and remembers them in `layers`."""

    def __init__(self, pooling: Pooling, options: ExportOptions) -> None:
        self.pooling = pooling
        self.options = options
        self.layers: list[TranslatedLayer] = []

    @property
    def table(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """The translation of each operator."""

        def translation(*values):  # type: ignore[no-untyped-def]  # the exporter reads annotations
            return self.translate(*values)

        return {OPERATOR: translation}

    def translate(
        self,
        features: ir.Value,
        weight: ir.Value,
        bias: ir.Value | None,
        prototypes: ir.Value,
        power: ir.Value | None,
        *scalars: Any,
    ) -> Sequence[ir.Value]:
        """Write one layer into the exporter's graph; return the operator's public outputs.

        Outputs that the network does not use are empty values.
        """
        _require_weights(weight, bias, prototypes, power)
        head = _config_of(weight, bias, prototypes, PoolingSettings(*scalars))
        parameters = LaterParameters(
            weight_of(weight),
            None if bias is None else weight_of(bias),
            weight_of(prototypes),
            None if power is None else weight_of(power),
        )
        self._forget_other_networks(prototypes)
        number = len(self.layers) + 1
        root = HEAD_SCOPE if number == 1 else f"{HEAD_SCOPE}/{number}"
        plan = plan_without_images(head, None, self.options)
        network = ir.Model(
            ir.Graph([], [], nodes=[], opset_imports={"": NATIVE_OPSET}), ir_version=IR_VERSION
        )
        wanted = self._wanted(prototypes)
        asked = [name.replace("embedding_bound", "residual") for name in wanted]
        found = write_head(network.graph, features, head, parameters, plan, asked, root)
        if "embedding_bound" in wanted and "embedding_bound" not in found:
            found["embedding_bound"] = _unproved(network.graph, found["residual"], root)
        outputs = {name: found[name] for name in OUTPUTS if name in wanted}
        network.graph.outputs.extend(outputs.values())
        passes.RemoveUnusedNodesPass()(network)
        if self.pooling == "plugin" and plan != NOTHING_TO_SOLVE:
            self._fold(network, head, plan, outputs, root)
        self.layers.append(TranslatedLayer(root, head, plan, prototypes, tuple(outputs)))
        values = dict(zip(outputs, _moved(network), strict=True))
        return [values.get(name, ir.Value()) for name in OUTPUTS]

    def _forget_other_networks(self, prototypes: ir.Value) -> None:
        graph = prototypes.meta["node"].graph
        self.layers = [one for one in self.layers if one.prototypes.meta["node"].graph is graph]

    def _wanted(self, prototypes: ir.Value) -> list[str]:
        """Return the outputs that the network uses of the layer's next call."""
        before = sum(layer.prototypes is prototypes for layer in self.layers)
        calls = [user for user in prototypes.meta["node"].users if user.target is OPERATOR]
        indices = {item.args[1] for item in calls[before].users if item.users}
        return [name for index, name in enumerate(OUTPUTS) if index in indices]

    def _fold(
        self,
        network: ir.Model,
        head: GSPConfig,
        plan: SolverPlan,
        outputs: Collection[str],
        root: str,
    ) -> None:
        if head.pooling == "gem":
            raise UsageError(
                "the plugin's node stores the power of gem, and PyTorch's exporter knows it only "
                "later; use gsp_deploy.export.export_onnx, or translations() without a plugin"
            )
        Folding(network, head, plan, outputs, root).run()
        drop_body(network)


def _require_weights(*values: ir.Value | None) -> None:
    for value in values:
        if value is not None and (value.producer() is not None or "node" not in value.meta):
            raise UsageError(
                "a GSP layer's parameters are computed in the network; export it with plain "
                "parameters (remove their parametrization)"
            )


def _config_of(
    weight: ir.Value, bias: ir.Value | None, prototypes: ir.Value, settings: PoolingSettings
) -> GSPConfig:
    (dim, channels), (count, _) = weight_of(weight).shape, weight_of(prototypes).shape
    start = settings.initial_scale
    return GSPConfig(
        in_channels=channels,
        embedding_dim=dim,
        num_prototypes=count,
        transport_ratio=settings.transport_ratio,
        entropy_weight=settings.entropy_weight,
        iterations=settings.steps,
        solver=settings.problem.solver,
        pooling=settings.pooling,  # type: ignore[arg-type]
        max_residual=settings.max_residual,
        normalize=settings.normalize,
        bias=bias is not None,
        initial_scale=None if start == settings.transport_ratio else start,
    )


def _unproved(graph: ir.Graph, residual: ir.Value, root: str) -> ir.Value:
    """Return the layer's constant bound for modes that have none; NaN stays NaN."""
    scope = GraphScope(graph, root, root)
    nothing = scope.op("Mul", residual, scope.constant("zero", 0.0), name="no_bound")
    largest = scope.constant("largest_distance", LARGEST_COSINE_DISTANCE)
    return scope.op("Add", nothing, largest, name="embedding_bound")


def _moved(network: ir.Model) -> list[ir.Value]:
    """Move a graph's nodes and constants to the exporter's recorder; return its outputs.

    The exporter renames the nodes of the outputs. These are identities, which its optimiser
    removes, so that the head's own nodes keep their names.
    """
    graph, recorder = network.graph, cast(Any, evaluator.default())
    nodes, ends = list(graph), list(graph.outputs)
    graph.outputs.clear()
    graph.remove(nodes)
    for name, value in list(graph.initializers.items()):
        del graph.initializers[name]
        if value.uses():
            assert value.const_value is not None
            attribute = ir.AttrTensor("value", value.const_value)
            recorder.nodes.append(ir.Node("", "Constant", [], [attribute], outputs=[value]))
    copies = [ir.Node("", "Identity", [value]) for value in ends]
    recorder.nodes.extend((*nodes, *copies))
    return [copy.outputs[0] for copy in copies]
