"""`gsp-deploy export`: a checkpoint becomes ONNX, with a certificate of its solver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import Force, Json

if TYPE_CHECKING:
    from gsp_deploy.config import ModelConfig
    from gsp_deploy.export import Calibration, ExportedModel

REFERENCE = "For the authors' state dict"


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of ours, or the authors' state dict.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or bf16; cost and solver stay in fp32.")
    ] = "fp32",
    io_precision: Annotated[
        str, typer.Option(help="Element type of float inputs and outputs.")
    ] = "fp32",
    opset: Annotated[int | None, typer.Option(help="17 to 22.  [default: 18, for bf16 22]")] = None,
    solver: Annotated[
        str, typer.Option(help="newton, or fixed-point for the paper's iteration.")
    ] = "newton",
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Solver steps.  [default: newton the fewest within the tolerance, "
            "fixed-point the checkpoint's own]"
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Worst weight error, relative to the weights' spread.")
    ] = 1e-4,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of images to certify on.  [default: built-in photographs]"),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Further outputs: attributes, weights.")
    ] = None,
    include_preprocessing: Annotated[
        bool, typer.Option("--include-preprocessing", help="Take uint8 NHWC and normalise inside.")
    ] = False,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Leave height and width open.")
    ] = False,
    static_batch: Annotated[
        bool, typer.Option("--static-batch", help="Fix the batch size to 1.")
    ] = False,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Keep the weights in a file beside.")
    ] = False,
    backbone: Annotated[
        str | None, typer.Option(help="timm architecture.", rich_help_panel=REFERENCE)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Input side.  [default: 224]", rich_help_panel=REFERENCE)
    ] = None,
    transport_ratio: Annotated[
        float | None, typer.Option(help="mu.  [default: 0.3]", rich_help_panel=REFERENCE)
    ] = None,
    entropy_weight: Annotated[
        float | None, typer.Option(help="gamma.  [default: 0.1]", rich_help_panel=REFERENCE)
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="gap, gmp, gem.  [default: gmp]", rich_help_panel=REFERENCE),
    ] = None,
    max_residual: Annotated[
        bool | None,
        typer.Option("--max-residual/--no-max-residual", rich_help_panel=REFERENCE),
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", rich_help_panel=REFERENCE)
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a checkpoint as ONNX, its solver certified on images."""
    from gsp_deploy.checkpoint import load_checkpoint, read_checkpoint
    from gsp_deploy.config import PreprocessingSpec
    from gsp_deploy.export import ExportOptions, Source, export_onnx
    from gsp_deploy.files import refuse_overwrite

    options = ExportOptions(
        precision=precision,  # type: ignore[arg-type]
        io_precision=io_precision,  # type: ignore[arg-type]
        opset=opset,
        dynamic_batch=not static_batch,
        dynamic_size=dynamic_size,
        include_preprocessing=include_preprocessing,
        outputs=tuple(also or ()),  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        iterations=iterations,
        tolerance=tolerance,
        external_data=external_data,
    )
    refuse_overwrite(output, force)
    model = load_checkpoint(
        checkpoint,
        backbone=backbone,
        preprocessing=PreprocessingSpec(image_size, image_size) if image_size else None,
        transport_ratio=transport_ratio,
        entropy_weight=entropy_weight,
        pooling=pooling,  # type: ignore[arg-type]
        max_residual=max_residual,
        normalize=normalize,
    )
    images = _calibration(calibrate, model.config)
    with show.status(f"exporting {checkpoint.name}"):
        source = Source.of(checkpoint, read_checkpoint(checkpoint).metadata)
        exported = export_onnx(model, output, options, images, source)
    _report(exported, json)


def _calibration(folder: Path | None, config: ModelConfig) -> Calibration | None:
    from gsp_deploy.errors import UsageError
    from gsp_deploy.export import calibration_from_files

    if folder is None:
        return None
    if config.preprocessing is None:
        raise UsageError(
            "a head alone is calibrated on features, not images; leave --calibrate out"
        )
    return calibration_from_files(folder, config.preprocessing)


def _report(exported: ExportedModel, json: bool) -> None:
    import json as json_module

    manifest = exported.manifest
    if json:
        show.document(
            "export",
            {"path": str(exported.path), "manifest": json_module.loads(manifest.to_json())},
        )
        return
    shapes = [f"{t.name} {t.dtype} {list(t.shape)}" for t in (*manifest.inputs, *manifest.outputs)]
    rows = [
        ("model", f"{manifest.model.backbone}, {manifest.precision}, opset {manifest.opset}"),
        *(("input" if i == 0 else "output", shape) for i, shape in enumerate(shapes)),
    ]
    if certificate := manifest.certificate:
        rows += [
            ("solver", f"{certificate.solver}, {certificate.steps} steps"),
            ("certified on", certificate.calibration),
            ("|mean w - 1|", f"{certificate.worst_marginal_error:.1e} at worst"),
            (
                "weight error",
                f"{certificate.worst_weight_error:.1e} at worst, "
                f"{certificate.worst_relative_weight_error:.1e} of the weights' spread",
            ),
        ]
    rows += [("kept in fp32", reason) for reason in manifest.kept_in_float32.values()]
    show.facts(f"{exported.path}", rows)
