"""`gsp-deploy bench`: measure latency, memory and the cost of the pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from gsp_deploy.base.choices import GatedFigure, L2State, Wait
from gsp_deploy.base.progress import Announce
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.options.numbers import whole_numbers
from gsp_deploy_cli.options.runtime import RuntimeOptions, engine_option
from gsp_deploy_cli.tables import show

comparison_option = panel("Against an earlier result")


@dataclass(frozen=True)
class EngineMeasuring:
    """What else to measure of engines."""

    wait: Annotated[Wait, engine_option(help="How the thread waits while an engine runs.")] = "auto"
    l2: Annotated[
        L2State, engine_option("--l2", help="cold: empty the GPU's L2 cache before each run.")
    ] = "warm"
    sustained: Annotated[
        float | None,
        engine_option(
            help="Seconds to run without pause while clocks, power and temperature are recorded."
        ),
    ] = None
    trtexec: Annotated[
        bool,
        engine_option("--trtexec", help="Only print the trtexec commands that measure the same."),
    ] = False


@dataclass(frozen=True)
class Comparing:
    """The earlier result to compare with, and how much slower a model may be."""

    save: Annotated[Path | None, comparison_option(help="Write the result as JSON.")] = None
    compare: Annotated[
        Path | None, comparison_option("--compare", help="A saved result.", callback=existing_file)
    ] = None
    max_regression: Annotated[
        str, comparison_option(help="Exit with code 3 if a figure grows by more than this.")
    ] = "10%"
    gate: Annotated[
        GatedFigure,
        comparison_option(
            help="What to compare. ratio: to average pooling in the same rounds (p50 without it); "
            "latency: p50 for all."
        ),
    ] = "ratio"


def bench(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Engines, exports (.onnx) and checkpoints, measured in turns.",
            callback=existing_file,
        ),
    ],
    *,
    batch: Annotated[str, typer.Option(help="Batch sizes, as in 1,8.")] = "1",
    repeats: Annotated[int, typer.Option(help="Timed rounds for each batch size.")] = 50,
    seconds: Annotated[
        float | None,
        typer.Option(help="Measure each batch size for this long instead of counting rounds."),
    ] = None,
    warmup: Annotated[int, typer.Option(help="Rounds before timing starts.")] = 5,
    size: Annotated[
        str | None,
        typer.Option(
            help="HxW for models that accept any size. (default: the trained size; 7x7 for a head)"
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Image to time pre-processing on. (default: a synthetic 640x480 JPEG)",
            callback=existing_file,
        ),
    ] = None,
    twin: Annotated[
        bool,
        typer.Option(
            "--twin/--no-twin", help="Also measure each model with average pooling instead."
        ),
    ] = True,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory/--no-memory", help="Measure peak memory, each model in its own process."
        ),
    ] = True,
    runtime: RuntimeOptions,
    engines: EngineMeasuring,
    comparing: Comparing,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure models in turns: latency, throughput, memory, and the pooling's own cost."""
    from gsp_deploy.artifact import sidecar_path
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.benchmark import (
        BenchmarkSettings,
        check_settings,
        compare,
        read_report,
        run_benchmark,
    )
    from gsp_deploy.runtime import implied_device
    from gsp_deploy_cli.tables.bench import show_report
    from gsp_deploy_cli.tables.bench_gpu import show_trtexec

    settings = BenchmarkSettings(
        batches=whole_numbers("--batch", batch),
        warmup=warmup,
        repeats=repeats,
        seconds=seconds,
        threads=runtime.threads,
        device=runtime.device or implied_device(models),
        provider=runtime.provider,
        ep_libraries=tuple(str(library.resolve()) for library in runtime.ep_libraries),
        session_config=runtime.session_config,
        size=whole_numbers("--size", size, "x") if size else None,  # type: ignore[arg-type]
        twin=twin,
        memory=memory,
        cuda_graphs=runtime.cuda_graphs,
        wait=engines.wait,
        l2=engines.l2,
        sustained=engines.sustained,
        cuda_api=runtime.cuda_api,
        allow_host_code=runtime.allow_host_code,
        runtime=runtime.runtime,
        precision=runtime.precision,
        requests=runtime.requests_for(),
        model_cache=None if runtime.model_cache is None else str(runtime.model_cache),
    )
    plugins = runtime.plugins
    if engines.trtexec:
        show_trtexec(models, settings, plugins, json)
        return
    limit = _share(comparing.max_regression)
    before = read_report(comparing.compare) if comparing.compare else None
    if before is not None:
        check_settings(before.settings, settings)  # now, not after minutes of measuring
    if comparing.save is not None:
        read = [*models, *map(sidecar_path, models), *filter(None, [comparing.compare])]
        refuse_inputs_inside(comparing.save, read)
        refuse_overwrite(comparing.save, force)
    with _announcing() as observe:
        report = run_benchmark(models, settings, image=image, plugins=plugins, observe=observe)
    if comparing.save is not None:
        report.save(comparing.save)
    comparison = None if before is None else compare(before, report, limit, comparing.gate)
    show_report(report, comparison, json)
    if comparison is not None:
        comparison.check()


def _share(text: str) -> float:
    """Return `10%` or `0.1` as 0.1."""
    from gsp_deploy.errors import UsageError

    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise UsageError(f"--max-regression takes a share, as in 10% or 0.1, got {text!r}")
    return share


@contextmanager
def _announcing() -> Iterator[Announce]:
    """Yield a function that shows the next step: a spinner on a terminal, lines in a log."""
    if not show.err.is_terminal:
        yield show.note
        return
    with show.err.status("starting") as status:
        yield lambda step: status.update(Text(step))
