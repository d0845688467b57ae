"""Append ONNX nodes to a graph under scoped names, such as `gsp/newton_3/slope`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from gsp_deploy.artifact.pooling_node import HEAD_PREFIX
from gsp_deploy.export.later import Numbers, as_tensor

Attribute = int | float | str | Sequence[int]

HEAD_SCOPE = HEAD_PREFIX.removesuffix("/")
IR_VERSION = 10
# Axes of maps `(B, channels, H, W)`.
CHANNELS, LOCATIONS = (1,), (2, 3)


class GraphScope:
    """Appends nodes to a graph under a path of scope names, as in `gsp/newton_3/slope`.

    Args:
        graph: receives the nodes and constants.
        scope: the path.
        root: the path of the head that shares the constants.
    """

    def __init__(self, graph: ir.Graph, scope: str, root: str = HEAD_SCOPE) -> None:
        self._graph = graph
        self._scope = scope
        self._root = root

    def op(self, kind: str, *inputs: ir.Value, name: str, **attributes: Attribute) -> ir.Value:
        """Append a node with one output; both are named by the scope's path and `name`."""
        path = f"{self._scope}/{name}"
        node = ir.node(kind, list(inputs), attributes=attributes, name=path)
        node.outputs[0].name = path
        self._graph.append(node)
        return node.outputs[0]

    def reduce(
        self,
        kind: str,
        value: ir.Value,
        axes: Sequence[int],
        *,
        name: str,
        keepdims: bool = True,
    ) -> ir.Value:
        """Append a reduction over some axes."""
        return self.op(kind, value, self.axes(axes), name=name, keepdims=int(keepdims))

    def axes(self, axes: Sequence[int]) -> ir.Value:
        """Return axes as a constant in the form that operators take."""
        name = "_".join(["axes", *map(str, axes)])
        return self.constant(name, np.array(axes, dtype=np.int64))

    def constant(self, name: str, array: Numbers | float) -> ir.Value:
        """Return the initializer of this name, made on first use. Scalars become float32."""
        path = f"{self._root}/const/{name}"
        if path in self._graph.initializers:
            return self._graph.initializers[path]
        data = np.array(array, dtype=np.float32) if isinstance(array, (int, float)) else array
        value = ir.Value(
            name=path,
            shape=ir.Shape(data.shape),
            type=ir.TensorType(ir.DataType.from_numpy(data.dtype)),
            const_value=as_tensor(data, path),
        )
        self._graph.register_initializer(value)
        return value

    @contextmanager
    def within(self, name: str) -> Iterator[GraphScope]:
        """Yield a scope one level deeper."""
        yield GraphScope(self._graph, f"{self._scope}/{name}", self._root)


def in_head(node: ir.Node) -> bool:
    """Whether a node belongs to the pooling head, by its name."""
    return (node.name or "").startswith(HEAD_PREFIX)
