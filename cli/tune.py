"""`gsp-deploy tune`: accuracy against latency on this device, and the best within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsp_deploy.wording import counted, drop_in_words
from gsp_deploy_cli import show
from gsp_deploy_cli.inputs import existing_data, existing_file, existing_path
from gsp_deploy_cli.options import Json
from gsp_deploy_cli.runtime_options import DeviceOptions

if TYPE_CHECKING:
    from gsp_deploy.data import Dataset
    from gsp_deploy.tuning import Point, Tuning, TuningSpace

CHOICE = "Choosing one"
SPACE = "What is tried"
MEASURING = "How it is measured"


@dataclass(frozen=True)
class Choice:
    """Which one is wanted, and where it goes."""

    max_latency: Annotated[
        float | None, typer.Option(help="ms of one inference.", rich_help_panel=CHOICE)
    ] = None
    max_drop: Annotated[
        float | None,
        typer.Option(help="Points of MAP@R below fp32.", rich_help_panel=CHOICE),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the one here (.onnx).", rich_help_panel=CHOICE),
    ] = None


@dataclass(frozen=True)
class Space:
    """What is tried."""

    precision: Annotated[
        str | None,
        typer.Option(help="(default: fp32,fp16,bf16,int8)", rich_help_panel=SPACE),
    ] = None
    steps: Annotated[
        str,
        typer.Option(
            help="Newton steps; certified: the fewest that the export certifies.",
            rich_help_panel=SPACE,
        ),
    ] = "certified,1"
    size: Annotated[
        str | None,
        typer.Option(
            help="Heights of the input. (default: the model's own, 7/8 and 3/4 of it)",
            rich_help_panel=SPACE,
        ),
    ] = None
    batch: Annotated[str, typer.Option(help="Batch sizes.", rich_help_panel=SPACE)] = "1,8"


@dataclass(frozen=True)
class Measuring:
    """How it is measured."""

    images: Annotated[
        int, typer.Option(help="Test images to score on, about.", rich_help_panel=MEASURING)
    ] = 2000
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images for int8. (default: the training part)",
            rich_help_panel=MEASURING,
            callback=existing_path,
        ),
    ] = None
    repeats: Annotated[
        int, typer.Option(help="Rounds that count, per candidate.", rich_help_panel=MEASURING)
    ] = 30
    engines: Annotated[
        bool,
        typer.Option(
            "--engines",
            help="Build a TensorRT engine of each for the GPU that is here, and measure it.",
            rich_help_panel=MEASURING,
        ),
    ] = False


def tune(
    model: Annotated[
        Path, typer.Argument(help="A checkpoint of ours (.safetensors).", callback=existing_file)
    ],
    *,
    data: Annotated[
        str,
        typer.Option(
            help="A data set (see `data list`): its test part scores, its training part "
            "calibrates int8. Not the one whose result you publish.",
            callback=existing_data,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Of the study; goes on from what is there. (default: tune-MODEL, beside the "
            "output or in runs/)"
        ),
    ] = None,
    choice: Choice,
    space: Space,
    measuring: Measuring,
    runs_on: DeviceOptions,
    force: Annotated[
        bool, typer.Option("--force", help="Start the study over; replace the output.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure accuracy and latency of every form of a model on this device, and choose one."""
    from dataclasses import replace

    from gsp_deploy.data import open_dataset
    from gsp_deploy.tuning import TIMING, Limits, TuningSettings, choose, deliver
    from gsp_deploy.tuning import tune as run
    from gsp_deploy.tuning.plot import plot_front

    limits, output = Limits(choice.max_latency, choice.max_drop), choice.output
    _check_output(output, limits.are_given, force)
    dataset = open_dataset(data)
    timing = replace(
        TIMING,
        batches=_numbers("--batch", space.batch),
        repeats=measuring.repeats,
        device=runs_on.device or ("cuda" if measuring.engines else "cpu"),
        provider=runs_on.provider,
        threads=runs_on.threads,
    )
    settings = TuningSettings(
        images=measuring.images,
        calibrate=measuring.calibrate,
        benchmark=timing,
        engines=measuring.engines,
    )
    tried = _tried(space, dataset, measuring.calibrate)
    folder = folder or (Path("runs") if output is None else output.parent) / f"tune-{model.stem}"
    with _progress() as observe:
        tuning = run(
            model, dataset, folder, tried, settings, called=data, force=force, observe=observe
        )
    figure = folder / "front.png"
    plot_front(tuning, figure)
    if not limits.are_given:
        _report(tuning, None, figure, None, json)
        return
    try:
        chosen = choose(tuning.points, limits)
    except Exception:
        _report(tuning, None, figure, None, json)  # what there is, before it is said to be too bad
        raise
    plot_front(tuning, figure, chosen)
    if output is not None:
        deliver(tuning, chosen, output)
    _report(tuning, chosen, figure, output, json)


def _check_output(output: Path | None, has_limits: bool, force: bool) -> None:
    from gsp_deploy.errors import UsageError
    from gsp_deploy.files import refuse_overwrite

    if output is None:
        return
    if not has_limits:
        raise UsageError("-o writes the one that is chosen; pass --max-latency or --max-drop")
    if output.suffix != ".onnx":
        raise UsageError(f"expected an output named .onnx, got {output.name!r}")
    refuse_overwrite(output, force)


def _tried(space: Space, dataset: Dataset, calibrate: Path | None) -> TuningSpace:
    from gsp_deploy.tuning import PRECISIONS, TuningSpace

    asked = space.precision
    precisions = tuple(PRECISIONS) if asked is None else tuple(asked.split(","))
    if asked is None and calibrate is None and not len(dataset.train):
        precisions = tuple(p for p in PRECISIONS if p != "int8")
        show.note(
            f"note: int8 is left out, {dataset.name} has no training part to calibrate it on; "
            "pass --calibrate FOLDER"
        )
    return TuningSpace(
        precisions=precisions,  # type: ignore[arg-type]
        steps=tuple(
            None if word == "certified" else _numbers("--steps", word)[0]
            for word in space.steps.split(",")
        ),
        sizes=() if space.size is None else _numbers("--size", space.size),
    )


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from gsp_deploy.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        words = "numbers and `certified`" if option == "--steps" else "numbers"
        raise UsageError(f"{option} takes {words}, as in 1,8, got {text!r}") from error


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what hears of each stage: a bar on a terminal, lines in a log."""
    with show.progress("tuning", None) as bar:

        def observe(doing: str, done: int, total: int) -> None:
            bar.update(bar.task_ids[0], description=doing, completed=done, total=total)
            if not show.err.is_terminal:
                show.note(f"{done}/{total} {doing}")

        yield observe


def _report(
    tuning: Tuning, chosen: Point | None, figure: Path, output: Path | None, json: bool
) -> None:
    if json:
        show.document("tune", {**tuning.to_dict(), **_choice(chosen, output), "figure": figure})
        return
    _tables(tuning, chosen)
    for name, reason in tuning.study.failures.items():
        show.note(f"note: {name} could not be measured: {reason}")
    for note in tuning.notes:
        show.note(f"note: {note}")
    rows = [("figure", str(figure)), ("study", str(tuning.study.folder))]
    if chosen is not None:
        rows.insert(0, ("chosen", _in_words(chosen)))
    if output is not None:
        rows.append(("written", f"{output} and {output.name}.json, {output.name}.tune.json"))
    show.facts(str(tuning.checkpoint), rows)


def _tables(tuning: Tuning, chosen: Point | None) -> None:
    for batch in sorted({point.batch for point in tuning.points}):
        timed = [p for p in tuning.points if p.batch == batch and p.latency_ms is not None]
        show.table(
            f"Batch {batch}: MAP@R in points, latency of one inference in ms",
            ("form", "MAP@R", "drop", "ms", "x fp32, quartiles", "front"),
            [_row(point, point in tuning.front, point == chosen) for point in timed],
        )
    emulated = {p.candidate: p for p in tuning.points if p.latency_ms is None}
    if emulated:
        show.table(
            "Emulated on this device: accuracy alone",
            ("form", "MAP@R", "drop"),
            [(_form(p), *_accuracy(p)) for p in emulated.values()],
        )


def _row(point: Point, on_front: bool, is_chosen: bool) -> tuple[str, ...]:
    mark = "chosen" if is_chosen else "*" if on_front else ""
    speed = point.speed
    assert speed is not None  # it was timed
    quartiles = f"{speed.ratio:.2f} {speed.ratio_low:.2f}-{speed.ratio_high:.2f}"
    return (_form(point), *_accuracy(point), f"{point.latency_ms:.3g}", quartiles, mark)


def _accuracy(point: Point) -> tuple[str, str]:
    return f"{point.map_at_r:.2f}", f"{point.drop:+.2f}"


def _form(point: Point) -> str:
    steps = point.solver_steps
    solver = "" if steps is None else f", {counted(steps, 'step')}"
    return f"{point.candidate.precision}, {point.candidate.size} px{solver}"


def _in_words(point: Point) -> str:
    return (
        f"{_form(point)}, batch {point.batch}: {point.latency_ms:.3g} ms "
        f"({point.images_per_second:.4g} images a second), MAP@R {point.map_at_r:.2f}, "
        + drop_in_words(point.drop)
    )


def _choice(chosen: Point | None, output: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "chosen": None if chosen is None else asdict(chosen),
        "output": None if output is None else str(output),
    }
