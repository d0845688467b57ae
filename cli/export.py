"""`gsp-deploy export`: write a checkpoint as ONNX, with a bound on the solver's error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.config import Solver
from gsp_deploy.precision import PRECISIONS, FloatPrecisionWord, PrecisionWord
from gsp_deploy_cli.export_rewrite import Rewriting, pooling_form, rewrite
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file, existing_path
from gsp_deploy_cli.options.int8 import Int8Options
from gsp_deploy_cli.options.reference import ReferenceOptions
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.export import check_drop, report

if TYPE_CHECKING:
    from gsp_deploy.config import ModelConfig
    from gsp_deploy.export import Calibration, QuantisationImages


def export(
    context: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A gsp-deploy checkpoint, or the authors' state dict.", callback=existing_file
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
    precision: Annotated[
        PrecisionWord,
        typer.Option(help="Precision of the backbone; the pooling's cost and solver stay in fp32."),
    ] = "fp32",
    io_precision: Annotated[
        FloatPrecisionWord, typer.Option(help="Element type of float inputs and outputs.")
    ] = "fp32",
    pooling: Annotated[
        str,
        typer.Option(
            help="unrolled: standard operators; plugin: one node for the fused kernel, and ONNX "
            "Runtime runs it without the kernel. (gap, gmp, gem: --pooling-mode)"
        ),
    ] = "unrolled",
    bare: Annotated[
        bool,
        typer.Option(
            "--bare",
            help="With --pooling plugin: write the node alone, as TensorRT 10.3 needs it; "
            "the file then runs only with the plugin.",
        ),
    ] = False,
    opset: Annotated[
        int | None, typer.Option(help="ONNX opset, 17 to 22. (default: 18; 22 for bf16)")
    ] = None,
    solver: Annotated[
        Solver,
        typer.Option(
            help="certified: bounded error for every input; fixed-point: the paper's iteration."
        ),
    ] = "certified",
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Number of solver steps; the error then has no bound. (default: for certified and "
            "newton what the hardest inputs need, for fixed-point the checkpoint's own)"
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="Largest error of a mixing weight, relative to the weights' spread."),
    ] = 1e-4,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to measure the solver on, and to calibrate int8. (default: "
            "built-in photographs; int8 has no default)",
            callback=existing_path,
        ),
    ] = None,
    int8: Int8Options,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Another output: attributes, weights or residual; repeatable."),
    ] = None,
    include_preprocessing: Annotated[
        bool,
        typer.Option(
            "--include-preprocessing",
            help="Take uint8 NHWC images and normalise them in the graph.",
        ),
    ] = False,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Accept images of any height and width.")
    ] = False,
    static_batch: Annotated[
        bool, typer.Option("--static-batch", help="Fix the batch size to 1.")
    ] = False,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Write the weights to a second file.")
    ] = False,
    reference: ReferenceOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a checkpoint as ONNX, with a bound on the solver's error for every input."""
    from gsp_deploy.errors import UsageError

    form = pooling_form(pooling, bare)
    if source is not None:
        asked = Rewriting(source, output, form, precision, external_data, calibrate, int8)
        rewrite(context, asked, force, json)
        return
    if checkpoint is None:
        raise UsageError(
            "expected a checkpoint to export, or --from MODEL.onnx to rewrite, got neither"
        )
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.artifact.kind import ONNX, require_kind
    from gsp_deploy.export import ExportOptions, Source, export_onnx

    int8.check(precision, calibrate)
    options = ExportOptions(
        precision=precision,
        io_precision=io_precision,
        opset=opset,
        dynamic_batch=not static_batch,
        dynamic_size=dynamic_size,
        include_preprocessing=include_preprocessing,
        outputs=tuple(also or ()),  # type: ignore[arg-type]
        solver=solver,
        iterations=iterations,
        tolerance=tolerance,
        external_data=external_data,
        pooling_form=form,
        **int8.given,
    )
    require_kind(output, ONNX, what="an output")
    refuse_model_overwrite(output, force)
    model = reference.load(checkpoint)
    options.check_against(model.config)
    images = _calibration(calibrate, model.config)
    with show.status(f"exporting {checkpoint.name}"):
        to_quantise = _quantisation_images(precision, calibrate, int8.validate, model.config)
        origin = Source.of(checkpoint)
        exported = export_onnx(model, output, options, images, origin, to_quantise, show.note)
    report(exported, json)
    check_drop(exported)


def _calibration(folder: Path | None, config: ModelConfig) -> Calibration | None:
    from gsp_deploy.errors import UsageError
    from gsp_deploy.export import calibration_from_files

    if folder is None:
        return None
    if config.preprocessing is None:
        raise UsageError(
            "a head alone is calibrated on features, not images; leave --calibrate out"
        )
    return calibration_from_files(folder, config.preprocessing, tell=show.note)


def _quantisation_images(
    precision: str, folder: Path | None, validate: str | None, config: ModelConfig
) -> QuantisationImages | None:
    from gsp_deploy.export import quantisation_images

    if not PRECISIONS[precision].quantised or folder is None or config.preprocessing is None:
        return None
    return quantisation_images(folder, config.preprocessing, validate)
