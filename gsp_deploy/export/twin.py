"""Make the twin of an exported model: the same network with average pooling instead of GSP.

The difference between the two is the cost of GSP. The twin is made from the ONNX file
itself, so that every node of backbone, precision and pre-processing is the same.

1. The backbone's feature map is the only value from outside that nodes under `gsp/` read.
2. All nodes that depend on it are removed; average pooling with the same 1x1 embedding follows it.
3. Opset, element types of input and output, and pre-processing inside the graph stay.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from gsp_deploy.artifact import METADATA_KEY, ExportManifest
from gsp_deploy.config import BaselineConfig, GSPConfig
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export.graph import HEAD_SCOPE, GraphScope, in_head
from gsp_deploy.export.head import HeadParameters, write_head
from gsp_deploy.export.model_file import read_model
from gsp_deploy.export.opset import downgrade_to_17
from gsp_deploy.export.transport import SolverPlan

EMBEDDING = "embedding"


def average_pooling_of(head: GSPConfig) -> BaselineConfig:
    """Return an average-pooling head with the same sizes, normalisation and bias as `head`."""
    return BaselineConfig(
        in_channels=head.in_channels,
        embedding_dim=head.embedding_dim,
        pooling="gap",
        normalize=head.normalize,
        bias=head.bias,
    )


def write_twin(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> ExportManifest:
    """Write the twin of an exported ONNX file to `target`, and return its manifest.

    Raises:
        ModelFileError: the file is damaged, gsp-deploy did not export it, or it has no GSP head.
    """
    network, manifest = read_model(Path(source), "export the checkpoint")
    head = manifest.model.head
    if not isinstance(head, GSPConfig):
        raise ModelFileError(f"{source}: expected a GSP head, found {head.in_words}")
    twin_head = average_pooling_of(head)
    parameters = _parameters(network.graph, source)
    _replace_head(network, twin_head, parameters, source)
    described = replace(
        manifest,
        model=replace(manifest.model, head=twin_head),
        outputs=tuple(output for output in manifest.outputs if output.name == EMBEDDING),
        certificate=None,
        pooling_form="unrolled",
        external_data=f"{Path(target).name}.data" if manifest.external_data else None,
        sha256=None,
    )
    network.metadata_props[METADATA_KEY] = described.to_json()
    ir.save(network, target, external_data=described.external_data)
    return described


def _replace_head(
    network: ir.Model,
    head: BaselineConfig,
    parameters: HeadParameters,
    source: str | os.PathLike[str],
) -> None:
    graph = network.graph
    passes.ShapeInferencePass()(network)
    old = next(value for value in graph.outputs if value.name == EMBEDDING)
    dtype, shape = old.dtype or ir.DataType.FLOAT, old.shape
    features = _features(graph, source)
    _require_last(old, source)
    graph.outputs[:] = [features]
    passes.RemoveUnusedNodesPass()(network)
    passes.RemoveUnusedFunctionsPass()(network)
    passes.RemoveUnusedOpsetsPass()(network)
    graph.outputs[:] = []
    embedding = write_head(graph, features, head, parameters, SolverPlan("exact", 0))[EMBEDDING]
    if dtype != ir.DataType.FLOAT:
        embedding = GraphScope(graph, "io").op("Cast", embedding, name=EMBEDDING, to=int(dtype))
    embedding.name, embedding.dtype, embedding.shape = EMBEDDING, dtype, shape
    graph.outputs.append(embedding)
    if network.opset_imports[""] == 17:
        downgrade_to_17(network)


def _require_last(embedding: ir.Value, source: str | os.PathLike[str]) -> None:
    """Refuse a network with layers after its pooling: the twin would lack them."""
    producer = embedding.producer()
    if producer is not None and producer.op_type == "Cast" and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    if producer is None or not in_head(producer):
        raise ModelFileError(
            f"{source}: layers follow the pooling, and its average-pooling twin would lack them"
        )


def _features(graph: ir.Graph, source: str | os.PathLike[str]) -> ir.Value:
    """Return the only value that the head's nodes read from outside the head."""
    taken: dict[ir.Value, None] = {}
    for node in graph:
        if not in_head(node):
            continue
        for value in node.inputs:
            producer = None if value is None else value.producer()
            is_inner = producer is not None and in_head(producer)
            if value is not None and not value.is_initializer() and not is_inner:
                taken[value] = None
    if len(taken) != 1:
        names = ", ".join(value.name or "?" for value in taken) or "none"
        raise ModelFileError(
            f"{source}: expected one feature map feeding the nodes {HEAD_SCOPE}/..., found {names}"
        )
    return next(iter(taken))


def _parameters(graph: ir.Graph, source: str | os.PathLike[str]) -> HeadParameters:
    """Read the 1x1 embedding back from the head's constants, as float32."""
    weight = _constant(graph, "vector_kernel", "embed_kernel")
    if weight is None:
        raise ModelFileError(f"{source}: the head has no embedding weights; export it again")
    return HeadParameters(
        embed_weight=weight.reshape(weight.shape[:2]),
        embed_bias=_constant(graph, "vector_bias", "embed_bias"),
    )


def _constant(graph: ir.Graph, *names: str) -> np.ndarray | None:
    for name in names:
        value = graph.initializers.get(f"{HEAD_SCOPE}/const/{name}")
        if value is not None and value.const_value is not None:
            return value.const_value.numpy().astype(np.float32)
    return None
