"""Read a graph for comparison: its floating values, and the PyTorch module of each."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from gsp_deploy.artifact.external_data import without_links
from gsp_deploy.artifact.pooling_node import HEAD_PREFIX, expand_pooling
from gsp_deploy.errors import ModelFileError, reason_of
from gsp_deploy.precision import PRECISIONS

LARGEST_PROTO = 1_900_000_000
NARROW = tuple(
    TensorProto.DataType.Value(row.element.onnx) for row in PRECISIONS.values() if row.lowered
)
_FLOATING = (TensorProto.FLOAT, TensorProto.DOUBLE, *NARROW)
_SCOPES = "pkg.torch.onnx.name_scopes"
# `a.conv1.weight`, and its names after precision passes and quantisers: `.../float16`, `..._scale`.
_WEIGHT = re.compile(r"(?P<module>.+)\.(weight|bias|running_mean|running_var)(?![a-z])")
_PREPROCESSING = "preprocessing/"
_EMBEDDING_NODES = ("gsp/embed", "gsp/embed_pooled", "gsp/embed_residual")


@dataclass(frozen=True)
class TracedValue:
    """A floating value that a node computes.

    Attributes:
        name: of the value.
        node, op: the node's name and operator.
        module: the PyTorch module, or modules where the exporter fused them; empty if unknown.
        scope: the innermost module that the exporter recorded; empty if none.
    """

    name: str
    node: str
    op: str
    module: str
    scope: str


@dataclass(frozen=True)
class TracedGraph:
    """The floating values of a graph in the order that they are computed in.

    Attributes:
        values: those values.
        precursors: for each value of any type, the inputs of the node that computes it.
    """

    values: tuple[TracedValue, ...]
    precursors: dict[str, tuple[str, ...]]

    def nearest(self, compared: set[str]) -> dict[str, set[str]]:
        """Return for each compared value the compared values that it was computed from."""
        reached: dict[str, set[str]] = {}
        sources: dict[str, set[str]] = {}
        for name, inputs in self.precursors.items():
            upstream = set().union(*(reached.get(source, set()) for source in inputs))
            if name in compared:
                sources[name] = upstream
            reached[name] = {name} if name in compared else upstream
        return sources


def load_graph(path: Path) -> onnx.ModelProto:
    """Load a model with its weights, its pooling unrolled, the type of every value inferred.

    Raises:
        ModelFileError: the file is missing or not an ONNX file.
    """
    try:
        with without_links(path) as plain:
            model = expand_pooling(onnx.load(plain))
        # A model too large for type inference keeps the types that the exporter wrote.
        large = model.ByteSize() > LARGEST_PROTO
        return model if large else onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf, onnx and the file system raise different types
        raise ModelFileError(f"{path}: not a whole ONNX file ({reason_of(error)})") from error


def trace(model: onnx.ModelProto) -> TracedGraph:
    """List the floating values that nodes of the graph compute, with where they come from."""
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    values, precursors = [], {}
    for node in graph.node:
        scope = _scope(node)
        for name in filter(None, node.output):
            precursors[name] = tuple(node.input)
            if types.get(name) in _FLOATING:
                module = _module(node, scope)
                values.append(TracedValue(name, node.name, node.op_type, module, scope))
    return TracedGraph(tuple(values), precursors)


def node_modules(model: onnx.ModelProto) -> dict[str, str]:
    """Return the PyTorch module of every node, by the node's name; empty where it is unknown."""
    return {node.name: _module(node, _scope(node)) for node in model.graph.node}


def _scope(node: onnx.NodeProto) -> str:
    """Return the innermost module of the exporter's record, `['', 'a', 'a.b', 'operation']`."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                return ""
            return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""
    return ""


def _module(node: onnx.NodeProto, scope: str) -> str:
    """Return the module's name, by the weights that the node reads and by the exporter's record.

    A convolution with a folded batch norm reads the weights of the one and is recorded as the
    other; both are named, `a.conv1 + bn1`.
    """
    if node.name.startswith(HEAD_PREFIX):
        return "head.embed" if node.name in _EMBEDDING_NODES else "head"
    if node.name.startswith(_PREPROCESSING):
        return "preprocessing"
    matches = (_WEIGHT.match(name) for name in node.input)
    owner = next((match["module"] for match in matches if match), "")
    if not owner or not scope or owner == scope:
        return owner or scope
    parent, _, last = scope.rpartition(".")
    return f"{owner} + {last if owner.rpartition('.')[0] == parent else scope}"
