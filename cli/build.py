"""`gsp-deploy build`: build a TensorRT engine from an ONNX file or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy.base.choices import Flavour
from gsp_deploy.precision import PrecisionWord
from gsp_deploy_cli.options.build import (
    BuilderOptions,
    PlanOptions,
    PluginOptions,
    ShapeOptions,
    build_options,
)
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.tables import show


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="An .onnx file, or a checkpoint, which is exported first.", callback=existing_file
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The engine file to write.")],
    precision: Annotated[
        PrecisionWord | None,
        typer.Option(
            help="Precision of the network; a float32 file is converted to fp16 or bf16 first. "
            "(default: that of the file)"
        ),
    ] = None,
    flavour: Annotated[
        Flavour | None,
        typer.Option(help="TensorRT or TensorRT-RTX. (default: the first that is installed)"),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="For TensorRT-RTX: a GPU that the plan runs on, as in sm_86, or all; repeatable. "
            "(default: this machine's GPU; without one, all that the network can be built for)"
        ),
    ] = None,
    shapes: ShapeOptions,
    builder: BuilderOptions,
    plan: PlanOptions,
    pooling: PluginOptions,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Save the intermediate ONNX file here.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Build a TensorRT or TensorRT-RTX engine, and write its manifest beside it."""
    from gsp_deploy.artifact import refuse_model_overwrite
    from gsp_deploy.artifact.kind import ENGINE, require_kind
    from gsp_deploy.base.files import refuse_inputs_inside
    from gsp_deploy.engine.build import build_engine
    from gsp_deploy.engine.preflight import read_preflight
    from gsp_deploy.engine.refit import refit_engine
    from gsp_deploy.engine.source import SourceOptions, onnx_of
    from gsp_deploy_cli.tables.build import report, show_preflight

    require_kind(output, ENGINE, what="an output")
    options = build_options(precision, target or (), shapes, builder, plan, pooling)
    wanted = SourceOptions(precision, pooling.form, shapes.dynamic_size, onnx)
    for file in (output, onnx):
        if file is not None:
            refuse_inputs_inside(file, [source])
            refuse_model_overwrite(file, force)
    preflight = read_preflight()
    show_preflight(preflight, builder.low_memory)
    with onnx_of(source, wanted, show.note) as graph, _bar(output.name) as advance:
        built = (
            build_engine(graph, output, options, flavour, show.note, advance)
            if plan.into is None
            else refit_engine(plan.into, graph, output)
        )
    report(built, preflight, json)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[float, str], None]]:
    """Yield a function that sets a bar to a share of the whole and shows TensorRT's phase."""
    with show.share(f"building {name}") as bar:

        def advance(done: float, phase: str) -> None:
            bar.update(bar.task_ids[0], completed=done, description=f"{name}: {phase}")

        yield advance
