"""`gsp-deploy adopt`: take an embedding network in ONNX that gsp-deploy did not export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.options.preparation import PreparationOptions
from gsp_deploy_cli.tables import show


def adopt(
    source: Annotated[
        Path,
        typer.Argument(
            help="An embedding network (.onnx) of any exporter.", callback=existing_file
        ),
    ],
    *,
    target: Annotated[Path, typer.Option("-o", help="The ONNX file to write.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", help="Name of the embedding in the file. (default: its only output)"
        ),
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="L2-normalise the embedding in the graph.")
    ] = False,
    preparation: PreparationOptions,
    license: Annotated[
        str | None, typer.Option(help="SPDX identifier of the weights' licence.")
    ] = None,
    external_data: Annotated[
        bool, typer.Option("--external-data", help="Write the weights to a second file.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Adopt an embedding network in ONNX of any exporter, so that every command reads it."""
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.artifact.kind import ONNX, require_kind
    from gsp_deploy.base.files import refuse_inputs_inside
    from gsp_deploy.export.adoption import adopt_onnx, image_input_of
    from gsp_deploy_cli.tables.export import report

    require_kind(target, ONNX, what="an output")
    refuse_inputs_inside(target, [source])
    refuse_model_overwrite(target, force)
    spec = preparation.settle(image_input_of(source, output))
    with show.status(f"adopting {source.name}"):
        adopted = adopt_onnx(
            source,
            target,
            spec,
            output=output,
            normalize=normalize,
            external_data=external_data,
            license=license,
            announce=show.remark,
        )
    report(adopted, json, document="adopt")
