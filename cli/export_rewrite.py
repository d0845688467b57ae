"""`gsp-deploy export --from`: rewrite an ONNX export in another form, without its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.export import report

if TYPE_CHECKING:
    from gsp_deploy.artifact.pooling_node import PoolingForm

# Options that a rewrite accepts; the ONNX file fixes everything else.
TAKEN = frozenset({"source", "output", "pooling", "bare", "external_data", "force", "json"})


def rewrite(
    context: typer.Context,
    source: Path,
    output: Path,
    form: PoolingForm,
    external_data: bool,
    force: bool,
    json: bool,
) -> None:
    """Rewrite `source` and report on the result as an export does."""
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.base.files import refuse_inputs_inside
    from gsp_deploy.errors import UsageError
    from gsp_deploy.export import rewrite_pooling

    for parameter in context.command.params:
        origin = context.get_parameter_source(parameter.name or "")
        if getattr(origin, "name", "") == "COMMANDLINE" and parameter.name not in TAKEN:
            raise UsageError(
                f"{parameter.opts[0]} is settled in {source.name} already; with --from only "
                "--pooling plugin and --bare change anything"
            )
    if form == "unrolled":
        raise UsageError("--from rewrites the pooling: pass --pooling plugin too")
    refuse_inputs_inside(output, [source])
    refuse_model_overwrite(output, force)
    with show.status(f"rewriting {source.name}"):
        exported = rewrite_pooling(source, output, form, external_data)
    report(exported, json)
