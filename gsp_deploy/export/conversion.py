"""Convert an exported or adopted float32 file to fp16 or bf16 without its checkpoint.

1. The backbone and the head's 1x1 embedding are lowered, as an export of that precision lowers
   them; cost, solver, pooling and pre-processing inside the graph stay in float32. An adopted
   network is all backbone.
2. Casts and constants that only the head reads get the head's names. So the backbone still ends in
   one value, and other passes find the head's constants under the names that an export uses.
3. The solver is certified again, on the converted graph.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gsp_deploy.artifact import ExportManifest, SolverCertificate
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.config import AdoptedHead, GSPConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.certificate import certify
from gsp_deploy.export.costs import PROTOTYPE_KERNEL, unit_prototypes
from gsp_deploy.export.graph import HEAD_SCOPE, in_head
from gsp_deploy.export.lowering import LOW_PRECISION, lower_precision
from gsp_deploy.export.model_file import read_model, write_model
from gsp_deploy.export.opset import raise_opset
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.precision import precision_named

_IN_HEAD = f"{HEAD_SCOPE}/"
_EMBED = f"{HEAD_SCOPE}/embed"
_OUTSIDE = ("preprocessing/", "io/")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def convert_precision(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    precision: str,
    calibration: Calibration | None = None,
) -> Artifact[ExportManifest]:
    """Read a float32 file that gsp-deploy exported, and write it in `fp16` or `bf16`.

    Raises:
        UsageError: the file cannot be converted to that precision; the message says what to do.
        ModelFileError: the file is missing or damaged, or gsp-deploy did not export it.
        GspDeployError: a weight or an embedding does not fit the precision's range.
    """
    network, manifest = read_model(
        Path(source), "leave --precision out, or adopt it first: gsp-deploy adopt"
    )
    again = f"export the checkpoint with --precision {precision}"
    if precision_named(precision).quantised:
        raise UsageError(
            f"{source}: {precision} needs images to calibrate on; {again} --calibrate FOLDER first"
        )
    refuse_precision(source, manifest, precision)
    if isinstance(manifest.model.head, AdoptedHead):
        _refuse_control_flow(source, network)
        network = raise_opset(network, precision_named(precision).conv_opset, source)
    passes.ShapeInferencePass()(network)
    kept = lower_precision(network, precision, takes_part=_is_lowered)
    _claim_casts(network)
    _claim_constants(network, LOW_PRECISION[precision])
    passes.RemoveUnusedNodesPass()(network)
    certificate = _certify(network, manifest, calibration or default_calibration(manifest.model))
    described = replace(
        manifest,
        precision=precision,
        opset=network.opset_imports[""],
        kept_in_float32=kept,
        certificate=certificate,
        sha256=None,
    )
    return write_model(network, Path(target), described, manifest.external_data is not None)


def refuse_precision(
    source: str | os.PathLike[str], manifest: ExportManifest, precision: str
) -> None:
    """Raise `UsageError` unless a file with this manifest can be converted to the precision."""
    is_adopted = isinstance(manifest.model.head, AdoptedHead)
    again = f"export the checkpoint with --precision {precision}"
    if manifest.precision != "fp32":
        remedy = "adopt the network in float32, and convert that" if is_adopted else again
        raise UsageError(
            f"{source} is {manifest.precision} and cannot be converted to {precision}; {remedy}"
        )
    if is_adopted:
        return
    if manifest.pooling_form != "unrolled":
        raise UsageError(f"{source} has its pooling as one node already; {again} --pooling plugin")
    if manifest.opset < precision_named(precision).conv_opset:
        raise UsageError(
            f"{source} is of opset {manifest.opset}, where Conv takes no {precision}; {again}"
        )


def _refuse_control_flow(source: str | os.PathLike[str], network: ir.Model) -> None:
    """Casts are placed in the main graph; a branch or a loop would read values of another type."""
    for node in network.graph:
        if any(attribute.type in _GRAPHS for attribute in node.attributes.values()):
            raise UsageError(
                f"{source} has control flow ({node.op_type} {node.name}), and only a network "
                "without any can be converted; export the network again without it"
            )


def _is_lowered(node: ir.Node) -> bool:
    name = node.name or ""
    return name == _EMBED or not name.startswith((_IN_HEAD, *_OUTSIDE))


def _claim_casts(network: ir.Model) -> None:
    """Name casts that only the head reads as the head's own."""
    for node in network.graph:
        users = [use.node for use in node.outputs[0].uses()]
        if node.op_type == "Cast" and users and all(in_head(user) for user in users):
            node.name = f"{_IN_HEAD}{(node.name or '').removeprefix(_IN_HEAD)}"


def _claim_constants(network: ir.Model, low: ir.DataType) -> None:
    """Give the head's lowered constants the names that an export of the precision gives them."""
    suffix, weights = f"/{low.name.lower()}", network.graph.initializers
    for name, value in list(weights.items()):
        plain = name.removesuffix(suffix)
        if name.startswith(_IN_HEAD) and plain != name and plain not in weights:
            del weights[name]
            value.name = plain
            weights[plain] = value


def _certify(
    network: ir.Model, manifest: ExportManifest, calibration: Calibration
) -> SolverCertificate | None:
    head, before = manifest.model.head, manifest.certificate
    if before is None or not isinstance(head, GSPConfig):
        return None
    twin = network.clone()
    nodes = {node.name: node for node in twin.graph}
    # In files of earlier versions the square is the first step; the root comes later.
    first = nodes.get(f"{_IN_HEAD}length") or nodes[f"{_IN_HEAD}square"]
    embeddings = first.inputs[0]
    assert embeddings is not None
    twin.graph.outputs.extend((embeddings, nodes[f"{_IN_HEAD}weights"].outputs[0]))
    kernel = network.graph.initializers[f"{HEAD_SCOPE}/const/{PROTOTYPE_KERNEL}"].const_value
    assert kernel is not None
    unit = unit_prototypes(kernel.numpy())
    plan = SolverPlan(before.solver, before.steps, before.grid_points)
    return certify(twin, head, unit, plan, calibration, before.tolerance, before.guarantee)
