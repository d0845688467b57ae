"""`gsp-deploy build`: an ONNX file or a checkpoint becomes a TensorRT engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import Force, Json

SHAPES = "Shapes"
BUILDER = "Builder"
PLAN = "What the plan can do"
PLUGIN = "Plugin"


def build(
    source: Annotated[
        Path, typer.Argument(help="An .onnx, or a checkpoint that is exported on the way.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The engine file to write.")],
    precision: Annotated[
        str | None,
        typer.Option(help="fp16 or bf16: convert to it first; the network is held to it."),
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option(help="tensorrt or tensorrt-rtx. (default: the first that is installed)"),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="For TensorRT-RTX: sm_86, several of them in one plan, or all. (default: this "
            "machine's GPU, without one all that the network can be built for)"
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            help="min:opt:max of an open batch; again for a further profile. (default: 1:8:64)",
            rich_help_panel=SHAPES,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="min:opt:max of open height and width, each N or HxW. (default: half to twice "
            "the trained size)",
            rich_help_panel=SHAPES,
        ),
    ] = None,
    dynamic_size: Annotated[
        bool,
        typer.Option(
            "--dynamic-size", help="Export a checkpoint of any size.", rich_help_panel=SHAPES
        ),
    ] = False,
    workspace: Annotated[
        str | None,
        typer.Option(help="Device memory a layer may use, as in 512M.", rich_help_panel=BUILDER),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(help="0 builds fast, 5 runs fast. (default: 3)", rich_help_panel=BUILDER),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            help="File of kernel timings, made or used and extended.", rich_help_panel=BUILDER
        ),
    ] = None,
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory", help="Start with little workspace and search.", rich_help_panel=BUILDER
        ),
    ] = False,
    hardware_compatibility: Annotated[
        str, typer.Option(help="none, ampere+ or same-capability.", rich_help_panel=PLAN)
    ] = "none",
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible", help="Runs on later versions too.", rich_help_panel=PLAN
        ),
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Its weights can be replaced.", rich_help_panel=PLAN)
    ] = False,
    strip_weights: Annotated[
        bool,
        typer.Option(
            "--strip-weights",
            help="Leave the weights out; --into puts them in.",
            rich_help_panel=PLAN,
        ),
    ] = False,
    weight_streaming: Annotated[
        bool,
        typer.Option(
            "--weight-streaming", help="Weights may wait on the host.", rich_help_panel=PLAN
        ),
    ] = False,
    tf32: Annotated[
        bool,
        typer.Option("--tf32", help="float32 products may round to TF32.", rich_help_panel=PLAN),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(
            help="A refittable or stripped engine that takes this file's weights; nothing else is "
            "built.",
            rich_help_panel=PLAN,
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="unrolled or plugin. (default: plugin with --plugin)", rich_help_panel=PLUGIN
        ),
    ] = None,
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="Library of the pooling plugin; or the word triton for a kernel inside the plan, "
            "which is experimental.",
            rich_help_panel=PLUGIN,
        ),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Keep the ONNX that was made on the way here.")
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Build a TensorRT or TensorRT-RTX engine, its manifest beside it."""
    from gsp_deploy.engine.build import build_engine
    from gsp_deploy.engine.options import BuildOptions, parse_bytes
    from gsp_deploy.engine.preflight import read_preflight
    from gsp_deploy.engine.profiles import parse_batch, parse_size
    from gsp_deploy.engine.refit import refit_engine
    from gsp_deploy.engine.source import SourceOptions, onnx_of
    from gsp_deploy.engine.targets import parse_targets
    from gsp_deploy.manifest import refuse_model_overwrite
    from gsp_deploy_cli.build_report import report, show_preflight

    options = BuildOptions(
        batches=tuple(parse_batch(text) for text in batch or ()),
        sizes=tuple(parse_size(text) for text in size or ()),
        precision=precision,
        targets=parse_targets(target or ()),
        workspace=None if workspace is None else parse_bytes(workspace),
        optimization_level=optimization_level,
        timing_cache=timing_cache,
        hardware_compatibility=hardware_compatibility,  # type: ignore[arg-type]
        version_compatible=version_compatible,
        refit=refit,
        strip_weights=strip_weights,
        weight_streaming=weight_streaming,
        tf32=tf32,
        low_memory=low_memory,
        plugin=plugin,
    )
    wanted = SourceOptions(precision, _pooling(pooling, plugin), dynamic_size, onnx)
    for file in (output, onnx):
        if file is not None:
            refuse_model_overwrite(file, force)
    preflight = read_preflight()
    show_preflight(preflight, low_memory)
    with onnx_of(source, wanted, show.note) as graph, _bar(output.name) as advance:
        built = (
            build_engine(graph, output, options, flavour, show.note, advance)
            if into is None
            else refit_engine(into, graph, output)
        )
    report(built, preflight, json)


def _pooling(asked: str | None, plugin: Path | None) -> str:
    from gsp_deploy.errors import UsageError

    if asked == "plugin" and plugin is None:
        raise UsageError("--pooling plugin needs the plugin's library: --plugin PATH")
    if asked == "unrolled" and plugin is not None:
        raise UsageError("--plugin belongs to --pooling plugin; leave one of the two out")
    return asked or ("unrolled" if plugin is None else "plugin")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[float, str], None]]:
    """Yield what moves a bar to a share of the whole and names TensorRT's phase."""
    with show.share(f"building {name}") as bar:

        def advance(done: float, phase: str) -> None:
            bar.update(bar.task_ids[0], completed=done, description=f"{name}: {phase}")

        yield advance
