"""Export a model to an ONNX file: plan the solver, assemble the graph, certify it, write it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx_ir as ir

from gsp_deploy.artifact import ExportManifest, SolverCertificate, TensorSpec
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.base.environment import package_versions
from gsp_deploy.base.files import sha256_of
from gsp_deploy.bounds import newton_steps
from gsp_deploy.checkpoint import read_metadata
from gsp_deploy.config import DEFAULT_ITERATIONS, GSPConfig
from gsp_deploy.errors import UsageError
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.certificate import certify, fewest_steps
from gsp_deploy.export.model_file import write_model
from gsp_deploy.export.open_sizes import check_open_sizes
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.plan import NOTHING_TO_SOLVE, certified_plan, guarantee_of, locations_of
from gsp_deploy.export.plugin_node import fold_pooling
from gsp_deploy.export.quantisation import QuantisationImages, cache_path, quantise_draft
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.precision import PRECISIONS


@dataclass(frozen=True)
class Source:
    """Where the model came from: the checkpoint's hash and what it says of its weights."""

    sha256: str | None = None
    provenance: dict[str, object] | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> Source:
        """Describe a checkpoint file; a bare state dict has no provenance."""
        metadata = read_metadata(checkpoint)
        provenance = None if metadata is None else asdict(metadata.provenance)
        return cls(sha256_of(checkpoint), provenance)


def export_onnx(
    model: EmbeddingModel,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    calibration: Calibration | None = None,
    source: Source | None = None,
    quantisation: QuantisationImages | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Artifact[ExportManifest]:
    """Write the model as ONNX with its manifest beside it.

    The default solver, `certified`, takes its points and steps from the head alone, and the
    manifest states what they guarantee for every input. It also has the measured error of the
    graph's weights on the calibration images (crops of photographs if you pass none).
    `newton` without `iterations` takes as many steps as the hardest known inputs need, and more
    if the calibration images need more.

    int8 needs the images of `quantisation`, keeps the activation ranges in
    `<model>.calibration.json`, and calls `tell` with a line at each stage. If no attempt keeps
    the allowed drop, the best one is written and `manifest.quantisation.passed` is False.

    Args:
        model: what `load_checkpoint` returns.
        path: the `.onnx` file to write; its manifest goes to `<path>.json`.
        options: precision, form and solver; None is float32 with the certified solver.
        calibration: images to measure on.
        source: the checkpoint's hash and provenance, for the manifest.
        quantisation: images to calibrate and to validate int8 on.
        tell: is called with a line at each stage of int8.

    Raises:
        UsageError: the model does not have what the options ask for, or int8 has no images.
        GspDeployError: the backbone cannot be exported, or no number of steps meets the tolerance.
    """
    options = options or ExportOptions()
    options.check_against(model.config)
    draft, record = Draft(model, options), None
    calibration = calibration or default_calibration(model.config, near=draft.parameters)
    if PRECISIONS[options.precision].quantised:
        if quantisation is None:
            raise UsageError("int8 needs images to calibrate on; pass --calibrate FOLDER")
        trial_plan, _ = _plan(draft, options, calibration)
        cache = cache_path(Path(path))
        draft, record = quantise_draft(draft, trial_plan, quantisation, cache, tell)
    plan, tolerance = _plan(draft, options, calibration)
    network = draft.assemble(plan, options.outputs)
    check_open_sizes(network, draft.config)
    certificate = _certificate(draft, plan, tolerance, calibration)
    manifest = replace(
        _manifest(network, draft, certificate, source or Source()), quantisation=record
    )
    if options.pooling_form != "unrolled":
        fold_pooling(network, manifest, options.pooling_form)
    return write_model(network, Path(path), manifest, options.external_data)


def _plan(
    draft: Draft, options: ExportOptions, calibration: Calibration
) -> tuple[SolverPlan, float | None]:
    """Choose solver and steps; the second value is the tolerance if it decided the steps."""
    head = draft.config.head
    if not isinstance(head, GSPConfig) or head.transport_ratio == 1:
        return NOTHING_TO_SOLVE, None
    tolerance = options.tolerance if options.iterations is None else None
    if options.solver == "certified":
        return certified_plan(head, draft.prototypes, options), tolerance
    if options.iterations is not None:
        return SolverPlan(options.solver, options.iterations), None
    if options.solver == "fixed-point":
        own = head.steps if head.solver == "fixed-point" else DEFAULT_ITERATIONS["fixed-point"]
        return SolverPlan("fixed-point", own), None
    probe = draft.assemble(SolverPlan("newton", 1), (), (draft.embeddings_name, "gsp/log_mass"))
    least = newton_steps(head.entropy_weight)
    steps = fewest_steps(probe, head, draft.prototypes, calibration, options.tolerance, least)
    return SolverPlan("newton", steps), options.tolerance


def _certificate(
    draft: Draft, plan: SolverPlan, tolerance: float | None, calibration: Calibration
) -> SolverCertificate | None:
    if plan == NOTHING_TO_SOLVE:
        return None
    head, guarantee = draft.config.head, None
    assert isinstance(head, GSPConfig)
    twin = draft.assemble(plan, (), (draft.embeddings_name, "gsp/weights"))
    if plan.solver == "certified" and draft.options.iterations is None:
        locations = locations_of(twin.graph.outputs[-1])
        guarantee = guarantee_of(plan, head, draft.prototypes, locations, draft.options)
    return certify(twin, head, draft.prototypes, plan, calibration, tolerance, guarantee)


def _manifest(
    network: ir.Model,
    draft: Draft,
    certificate: SolverCertificate | None,
    source: Source,
) -> ExportManifest:
    return ExportManifest(
        model=draft.config,
        precision=draft.options.precision,
        opset=network.opset_imports[""],
        inputs=tuple(_tensor_spec(value) for value in network.graph.inputs),
        outputs=tuple(_tensor_spec(value) for value in network.graph.outputs),
        includes_preprocessing=draft.options.include_preprocessing,
        certificate=certificate,
        pooling_form=draft.options.pooling_form,
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
