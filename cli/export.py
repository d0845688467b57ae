"""`gsp-deploy export`: write a model as ONNX, with a bound on the solver's error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.precision import PRECISIONS
from gsp_deploy_cli.export_rewrite import Rewriting, rewrite
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.export import (
    GraphOptions,
    PoolingOptions,
    PrecisionOptions,
    SolverOptions,
    export_options,
)
from gsp_deploy_cli.options.inputs import existing_file, existing_path
from gsp_deploy_cli.options.int8 import Int8Options
from gsp_deploy_cli.options.network import NetworkOptions, existing_model
from gsp_deploy_cli.options.reference import ReferenceOptions
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.export import check_drop, report

if TYPE_CHECKING:
    from gsp_deploy.base.progress import Announce
    from gsp_deploy.config import PreprocessingSpec
    from gsp_deploy.export import Calibration, QuantisationImages


def export(
    context: typer.Context,
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A gsp-deploy checkpoint, the authors' state dict, or the factory of a network of "
            "your own, as package.module:function.",
            callback=existing_model,
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Rewrite this ONNX model with --pooling plugin or --precision; you give no "
            "checkpoint then.",
            callback=existing_file,
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to measure the solver on, and to calibrate int8. (default: "
            "built-in photographs; int8 has no default)",
            callback=existing_path,
        ),
    ] = None,
    precision: PrecisionOptions,
    pooling: PoolingOptions,
    solver: SolverOptions,
    graph: GraphOptions,
    int8: Int8Options,
    network: NetworkOptions,
    reference: ReferenceOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a model as ONNX, with a bound on the solver's error for every input."""
    from gsp_deploy.errors import UsageError

    form = pooling.form
    if source is not None:
        asked = Rewriting(
            source, output, form, precision.precision, graph.external_data, calibrate, int8
        )
        rewrite(context, asked, force, json)
        return
    if checkpoint is None:
        raise UsageError(
            "expected a checkpoint to export, or --from MODEL.onnx to rewrite, got neither"
        )
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.artifact.kind import ONNX, require_kind
    from gsp_deploy.export import export_onnx

    int8.check(precision.precision, calibrate)
    options = export_options(precision, graph, solver, form, int8)
    require_kind(output, ONNX, what="an output")
    refuse_model_overwrite(output, force)
    subject = network.load(context, checkpoint, reference)
    if subject.config is not None:
        options.check_against(subject.config)
    quantised = PRECISIONS[precision.precision].quantised
    # Quantisation reads the same folder, and its notes say what was skipped there.
    announce = (lambda line: None) if quantised else show.note
    images = _calibration(calibrate, subject.preprocessing, announce)
    with show.status(f"exporting {subject.name}"):
        to_quantise = (
            _quantisation_images(calibrate, int8.validate, subject.preprocessing)
            if quantised
            else None
        )
        exported = export_onnx(
            subject.model,
            output,
            options,
            images,
            subject.source,
            to_quantise,
            show.note,
            example=subject.example,
            preprocessing=subject.preprocessing,
        )
    report(exported, json)
    check_drop(exported)


def _calibration(
    folder: Path | None, spec: PreprocessingSpec | None, announce: Announce
) -> Calibration | None:
    from gsp_deploy.errors import UsageError
    from gsp_deploy.export import calibration_from_files

    if folder is None:
        return None
    if spec is None:
        raise UsageError(
            "a head alone is calibrated on features, not images; leave --calibrate out"
        )
    return calibration_from_files(folder, spec, announce=announce)


def _quantisation_images(
    folder: Path | None, validate: str | None, spec: PreprocessingSpec | None
) -> QuantisationImages | None:
    from gsp_deploy.export import quantisation_images

    if folder is None or spec is None:
        return None
    return quantisation_images(folder, spec, validate)
