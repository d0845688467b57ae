"""Export a model to an ONNX file: plan the solver, assemble the graph, certify it, write it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn

from gsp_deploy.artifact import ExportManifest, SolverCertificate
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.base.environment import package_versions
from gsp_deploy.base.progress import Announce
from gsp_deploy.config import GSPConfig, PreprocessingSpec
from gsp_deploy.errors import UsageError
from gsp_deploy.export.assembly import Draft
from gsp_deploy.export.calibration import Calibration, default_calibration
from gsp_deploy.export.certificate import certify, fewest_steps
from gsp_deploy.export.model_file import spec_of, write_model
from gsp_deploy.export.network import export_network
from gsp_deploy.export.open_sizes import check_open_sizes
from gsp_deploy.export.options import ExportOptions
from gsp_deploy.export.plan import NOTHING_TO_SOLVE, guarantee_of, locations_of, plan_without_images
from gsp_deploy.export.plugin_node import fold_pooling
from gsp_deploy.export.quantisation import QuantisationImages, cache_path, quantise_draft
from gsp_deploy.export.source import EXPORT_PACKAGES, Source
from gsp_deploy.export.transport import SolverPlan
from gsp_deploy.model import EmbeddingModel
from gsp_deploy.precision import PRECISIONS


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    calibration: Calibration | None = None,
    source: Source | None = None,
    quantisation: QuantisationImages | None = None,
    announce: Announce = lambda line: None,
    *,
    example: Tensor | None = None,
    preprocessing: PreprocessingSpec | None = None,
) -> Artifact[ExportManifest]:
    """Write a model as ONNX with its manifest beside it.

    The model is an `EmbeddingModel`, or any network from images to an embedding; pass `example`
    with the latter. It may return a tensor, a tuple or a dict: the entry named `embedding`, or the
    first, is the embedding. Every GSP layer in it gets the certified form; without one, the
    manifest says that there is no GSP head.

    The default solver, `certified`, takes its points and steps from the head alone, and the
    manifest states what they guarantee for every input. It also has the measured error of the
    graph's weights on the calibration images (crops of photographs if you pass none).
    `newton` without `iterations` takes as many steps as the hardest known inputs need, and more
    if the calibration images need more.

    int8 needs the images of `quantisation`, keeps the activation ranges in
    `<model>.calibration.json`, and calls `announce` with a line at each stage. If no attempt keeps
    the allowed drop, the best one is written and `manifest.quantisation.passed` is False.

    Args:
        model: what `load_checkpoint` returns, or a network of your own.
        path: the `.onnx` file to write; its manifest goes to `<path>.json`.
        options: precision, form and solver; None is float32 with the certified solver.
        calibration: images to measure on.
        source: the checkpoint's hash and provenance, for the manifest.
        quantisation: images to calibrate and to validate int8 on.
        announce: is called with a line at each stage of int8.
        example: normalised images `(B, 3, H, W)` for a network of your own.
        preprocessing: how such a network's images are prepared; None is ImageNet's at the
            example's size.

    Raises:
        UsageError: the model does not have what the options ask for, or int8 has no images.
        GspDeployError: the backbone cannot be exported, or no number of steps meets the tolerance.
    """
    options = options or ExportOptions()
    if not isinstance(model, EmbeddingModel):
        if example is None:
            raise UsageError(
                f"{type(model).__name__} is no EmbeddingModel; pass example=images, a batch "
                "(B, 3, H, W), to export it"
            )
        return export_network(
            model, path, example, options, preprocessing, calibration, source or Source()
        )
    options.check_against(model.config)
    draft, record = Draft(model, options), None
    calibration = calibration or default_calibration(model.config, near=draft.parameters)
    if PRECISIONS[options.precision].quantised:
        if quantisation is None:
            raise UsageError("int8 needs images to calibrate on; pass --calibrate FOLDER")
        trial_plan, _ = _plan(draft, options, calibration)
        cache = cache_path(Path(path))
        draft, record = quantise_draft(draft, trial_plan, quantisation, cache, announce)
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
    if not isinstance(head, GSPConfig):
        return NOTHING_TO_SOLVE, None
    plan = plan_without_images(head, draft.prototypes, options)
    if options.iterations is not None or plan.solver not in ("certified", "newton"):
        return plan, None
    if plan.solver == "certified":
        return plan, options.tolerance
    probe = draft.assemble(SolverPlan("newton", 1), (), (draft.embeddings_name, "gsp/log_mass"))
    steps = fewest_steps(probe, head, draft.prototypes, calibration, options.tolerance, plan.steps)
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
        inputs=tuple(spec_of(value) for value in network.graph.inputs),
        outputs=tuple(spec_of(value) for value in network.graph.outputs),
        includes_preprocessing=draft.options.include_preprocessing,
        certificate=certificate,
        pooling_form=draft.options.pooling_form,
        kept_in_float32=draft.kept,
        versions=package_versions(EXPORT_PACKAGES),
        source_sha256=source.sha256,
        provenance=source.provenance or {},
    )
