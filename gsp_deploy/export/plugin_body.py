"""Build the body of the pooling node, which a runtime without the plugin computes instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from gsp_deploy.artifact.pooling_node import OP_TYPE
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export.costs import PROTOTYPE_KERNEL
from gsp_deploy.export.graph import LOCATIONS


class PluginBody:
    """The nodes between the pooling node's inputs and outputs, copied into a separate graph."""

    def __init__(self, network: ir.Model, inputs: dict[str, ir.Value], root: str) -> None:
        self.network = network
        self.root = root
        self.inputs = {
            name: ir.Value(name=name, type=value.type, shape=value.shape)
            for name, value in inputs.items()
        }
        self.copies: dict[ir.Value, ir.Value] = {
            value: self.inputs[name] for name, value in inputs.items()
        }
        self.nodes: list[ir.Node] = []

    def of(self, ends: dict[str, ir.Value]) -> ir.Graph:
        """Return the body that computes `ends`; its outputs are named by their keys."""
        needed = self._needed(list(ends.values()))
        for node in self.network.graph:
            if node in needed:
                self._copy(node)
        outputs = [self.copies[value] for value in ends.values()]
        for name, value in zip(ends, outputs, strict=True):
            value.name = name
        opset = self.network.opset_imports[""]
        return ir.Graph(
            list(self.inputs.values()),
            outputs,
            nodes=self.nodes,
            opset_imports={"": opset},
            name=OP_TYPE,
        )

    def _needed(self, ends: Sequence[ir.Value]) -> set[ir.Node]:
        found: set[ir.Node] = set()
        waiting = list(ends)
        while waiting:
            value = waiting.pop()
            node = value.producer()
            if value in self.copies or node is None or node in found:
                continue
            found.add(node)
            waiting += [source for source in node.inputs if source is not None]
        return found

    def _copy(self, node: ir.Node) -> None:
        sources = [None if v is None else self._copied(v) for v in node.inputs]
        copy = ir.node(
            node.op_type,
            sources,
            attributes=dict(node.attributes),
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        self.nodes.append(copy)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            self.copies[old] = new

    def _copied(self, value: ir.Value) -> ir.Value:
        if value not in self.copies:
            if value.const_value is None:
                raise ModelFileError(
                    f"the pooling takes {value.name} from outside; export the checkpoint again"
                )
            self.copies[value] = self._constant(value)
        return self.copies[value]

    def _constant(self, value: ir.Value) -> ir.Value:
        if value.name == f"{self.root}/const/{PROTOTYPE_KERNEL}":
            return self._prototype_kernel()
        assert value.const_value is not None
        return self._append("Constant", (), value.name or "", value=value.const_value)

    def _prototype_kernel(self) -> ir.Value:
        minus_two = self._written(f"{self.root}/minus_two", np.float32(-2))
        unit = self.inputs["prototypes"]
        scaled = self._append("Mul", (unit, minus_two), f"{self.root}/scaled_prototypes")
        axes = self._written(f"{self.root}/kernel_axes", np.array(LOCATIONS, dtype=np.int64))
        return self._append("Unsqueeze", (scaled, axes), f"{self.root}/kernel")

    def _written(self, name: str, array: np.ndarray | np.generic) -> ir.Value:
        return self._append("Constant", (), name, value=ir.tensor(array, name=name))

    def _append(
        self, kind: str, sources: Sequence[ir.Value], name: str, **attributes: ir.TensorProtocol
    ) -> ir.Value:
        node = ir.node(kind, list(sources), attributes=attributes, name=name)
        node.outputs[0].name = name
        self.nodes.append(node)
        return node.outputs[0]
