"""Assembling an ONNX model from backbone and head, proving it, and writing it as one piece."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

import gsp_deploy
from gsp_deploy.checkpoint import CheckpointMetadata
from gsp_deploy.config import GSPConfig, ModelConfig
from gsp_deploy.environment import package_versions
from gsp_deploy.errors import GspDeployError
from gsp_deploy.export.backbone import export_backbone, head_parameters
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.certificate import certify, fewest_steps
from gsp_deploy.export.graph import GraphScope
from gsp_deploy.export.head import HeadParameters, SolverPlan, write_head
from gsp_deploy.export.opset import downgrade_to_17
from gsp_deploy.export.options import BFLOAT16_OPSET, ExportOptions
from gsp_deploy.export.precision import FLOAT, LOW_PRECISION, lower_precision
from gsp_deploy.files import replacing, sha256_of
from gsp_deploy.manifest import (
    METADATA_KEY,
    ExportManifest,
    SolverCertificate,
    TensorSpec,
    sidecar_path,
    write_sidecar,
)
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.normalisation import affine

# Protobuf ends at 2 GB; stay clear of it.
EXTERNAL_DATA_BYTES = 1_900_000_000
IR_VERSION = 10


@dataclass(frozen=True)
class Source:
    """Where the model came from: the checkpoint's hash and what it says of its weights."""

    sha256: str | None = None
    provenance: dict[str, object] | None = None

    @classmethod
    def of(cls, checkpoint: Path, metadata: CheckpointMetadata | None) -> Source:
        """Describe a checkpoint file; a bare state dict tells nothing of its weights."""
        told = None if metadata is None else asdict(metadata.provenance)
        return cls(sha256_of(checkpoint), told)


@dataclass(frozen=True)
class ExportedModel:
    """An ONNX file on disk and its manifest."""

    path: Path
    manifest: ExportManifest


def export_onnx(
    model: EmbeddingModel,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    calibration: Calibration | None = None,
    source: Source | None = None,
) -> ExportedModel:
    """Write the model as ONNX with its manifest beside it.

    The solver is certified on the calibration images (crops of photographs where none are
    given); with `newton` and no `iterations` the fewest steps that meet the tolerance are taken.

    Raises:
        GspDeployError: the backbone cannot be exported, or no number of steps meets the tolerance.
    """
    options = options or ExportOptions()
    calibration = calibration or default_calibration(model.config)
    draft = _Draft(model, options)
    plan, tolerance = _plan(draft, options, calibration)
    network = draft.assemble(plan, options.outputs)
    certificate = _certificate(draft, plan, tolerance, calibration)
    manifest = _manifest(network, draft, options, certificate, source or Source())
    return _write(network, Path(path), manifest, options.external_data)


class _Draft:
    """A backbone exported once, from which graphs with different heads are assembled."""

    def __init__(self, model: EmbeddingModel, options: ExportOptions) -> None:
        self.config = model.config
        self.options = options
        self.parameters: HeadParameters = head_parameters(model.head)
        self._backbone = export_backbone(
            model, options.operator_set, options.dynamic_batch, options.dynamic_size
        )
        self.kept: dict[str, str] = {}
        if options.precision != "fp32" and not model.config.is_head_only:
            self.kept = lower_precision(
                self._backbone, options.precision, restore_outputs=self.head_precision is None
            )

    @property
    def head_precision(self) -> ir.DataType | None:
        """What the 1x1 embedding computes in, if not float32: its convolution must admit it."""
        if self.options.precision == "bf16" and self.options.operator_set < BFLOAT16_OPSET:
            return None
        return LOW_PRECISION.get(self.options.precision)

    def assemble(
        self, plan: SolverPlan, outputs: tuple[str, ...], extra: tuple[str, ...] = ()
    ) -> ir.Model:
        """Return a fresh model with the head appended; `extra` names inner values to expose."""
        network = self._backbone.clone()
        graph = network.graph
        features = self._features(graph)
        del graph.outputs[:]
        found = write_head(graph, features, self.config.head, self.parameters, plan, outputs)
        if self.options.include_preprocessing and not self.config.is_head_only:
            _prepend_preprocessing(graph, self.config)
        for name in ("embedding", *outputs):
            graph.outputs.append(self._as_output(graph, found[name], name))
        graph.outputs.extend(_value(graph, name) for name in extra)
        _finish(network, self.options)
        return network

    def _features(self, graph: ir.Graph) -> ir.Value:
        features = graph.outputs[0]
        if not self.config.is_head_only or self.head_precision is None:
            return features
        return _cast(graph, features, self.head_precision, "features_low")

    def _as_output(self, graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
        low = LOW_PRECISION.get(self.options.io_precision)
        if low is not None:
            value = _cast(graph, value, low, name)
        value.name = name
        value.dtype = low or FLOAT
        return value


def _plan(
    draft: _Draft, options: ExportOptions, calibration: Calibration
) -> tuple[SolverPlan, float | None]:
    """Choose solver and steps; the second value is the tolerance when the steps were searched."""
    head = draft.config.head
    if not isinstance(head, GSPConfig) or head.transport_ratio == 1:
        return SolverPlan("exact", 0), None
    if options.iterations is not None:
        return SolverPlan(options.solver, options.iterations), None
    if options.solver == "fixed-point":
        steps = head.steps if head.solver == "fixed-point" else GSPConfig(1).steps
        return SolverPlan("fixed-point", steps), None
    probe = draft.assemble(SolverPlan("newton", 1), (), extra=("gsp/log_mass",))
    steps = fewest_steps(probe, head, calibration, options.tolerance)
    return SolverPlan("newton", steps), options.tolerance


def _certificate(
    draft: _Draft, plan: SolverPlan, tolerance: float | None, calibration: Calibration
) -> SolverCertificate | None:
    if plan.solver == "exact":
        return None
    head = draft.config.head
    assert isinstance(head, GSPConfig)
    assert draft.parameters.prototypes is not None
    embeddings = "gsp/embeddings" if draft.head_precision is None else "gsp/embeddings_float"
    twin = draft.assemble(plan, (), extra=(embeddings, "gsp/weights"))
    return certify(twin, head, draft.parameters.prototypes, plan, calibration, tolerance)


def _prepend_preprocessing(graph: ir.Graph, config: ModelConfig) -> None:
    """Let the graph take uint8 `(B, H, W, 3)`: cast, transpose, scale, shift."""
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


def _finish(network: ir.Model, options: ExportOptions) -> None:
    """Set input types and versions, drop what is unused, and infer the remaining shapes."""
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
    source.dtype = low
    widened = ir.node("Cast", [source], attributes={"to": int(FLOAT)}, name="io/images")
    widened.outputs[0].name = "io/images"
    widened.outputs[0].dtype, widened.outputs[0].shape = FLOAT, source.shape
    users = [use for use in source.uses() if use.node is not widened]
    graph.insert_before(graph[0], widened)
    for use in users:
        use.node.replace_input_with(use.idx, widened.outputs[0])


def _manifest(
    network: ir.Model,
    draft: _Draft,
    options: ExportOptions,
    certificate: SolverCertificate | None,
    source: Source,
) -> ExportManifest:
    return ExportManifest(
        model=draft.config,
        precision=options.precision,
        opset=network.opset_imports[""],
        inputs=tuple(_tensor_spec(value) for value in network.graph.inputs),
        outputs=tuple(_tensor_spec(value) for value in network.graph.outputs),
        includes_preprocessing=options.include_preprocessing,
        certificate=certificate,
        kept_in_float32=draft.kept,
        versions=package_versions(("torch", "timm", "onnx", "onnxscript", "onnxruntime")),
        source_sha256=source.sha256,
        provenance=source.provenance or {},
    )


def _tensor_spec(value: ir.Value) -> TensorSpec:
    assert value.shape is not None
    assert value.dtype is not None
    assert value.name is not None
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, shape)


def _write(
    network: ir.Model, path: Path, manifest: ExportManifest, external_data: bool
) -> ExportedModel:
    """Check the model as a whole, then move it, its data and its manifest into place."""
    if external_data or _weight_bytes(network) > EXTERNAL_DATA_BYTES:
        manifest = replace(manifest, external_data=f"{path.name}.data")
    _describe(network, manifest)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=_folder(path)) as folder:
        draft = Path(folder) / path.name
        ir.save(network, draft, external_data=manifest.external_data)
        try:
            onnx.checker.check_model(str(draft), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise GspDeployError(f"the exported graph is invalid: {error}") from error
        if manifest.external_data:
            with replacing(path.with_name(manifest.external_data)) as temporary:
                os.replace(draft.with_name(manifest.external_data), temporary)
        manifest = replace(manifest, sha256=sha256_of(draft))
        sidecar_path(path).unlink(missing_ok=True)  # never a new model beside an old manifest
        with replacing(path) as temporary:
            os.replace(draft, temporary)
    write_sidecar(manifest, path)
    return ExportedModel(path, manifest)


def _weight_bytes(network: ir.Model) -> int:
    weights = (value.const_value for value in network.graph.initializers.values())
    return sum(int(weight.nbytes) for weight in weights if weight is not None)


def _folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def _describe(network: ir.Model, manifest: ExportManifest) -> None:
    properties = network.metadata_props
    properties[METADATA_KEY] = manifest.to_json()
    properties["gsp_deploy.version"] = gsp_deploy.__version__
    properties["gsp_deploy.model_name"] = manifest.model.backbone
    properties["gsp_deploy.license"] = str(manifest.provenance.get("license") or "unknown")
