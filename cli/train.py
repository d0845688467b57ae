"""`gsp-deploy train`: train a model by a recipe; you can stop and continue the run."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.inputs import existing_data
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.tables.train import report, report_seeds

if TYPE_CHECKING:
    from gsp_deploy.training import RunPlan, StepRecord, TrainingResult

INTERRUPTED = 130


def train(
    recipe: Annotated[
        Path, typer.Argument(help="A TOML file, or the name of a built-in recipe: glyphs-quick.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the run. (default: runs/RECIPE[-KIND OF DATA][-FOLD])"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the folder, if there is one.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the recipe; repeatable."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Data set, short for --set data.spec=; see `data list`.",
            callback=existing_data,
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            metavar="K/N", help="Hold out part K of N of the classes; short for --set data.fold=."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed, short for --set run.seed=.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Train once with each of these seeds, into OUTPUT/seed-N, and show one table.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device, short for --set run.device=.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over, replacing the run in the folder.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an embedding model; validate on held-out classes; keep the best and the last."""
    from gsp_deploy.errors import UsageError

    if resume and force:
        raise UsageError("--resume continues a run and --force replaces it; give one of them")
    if seed is not None and seeds is not None:
        raise UsageError("--seed is for one run and --seeds for several; give one of them")
    shortcuts = {"data.spec": data, "data.fold": fold, "run.seed": seed, "run.device": device}
    overrides = [*(settings or ()), *(f"{k}={v}" for k, v in shortcuts.items() if v is not None)]
    folder = output or _folder(recipe, data, fold)
    if seeds is None:
        result = _run(recipe, overrides, folder, resume, force)
        if result.leads:  # only one of several processes prints
            report(result, json)
        _exit_if_interrupted(result)
        return
    results = {}
    for number in _numbers(seeds):
        one, place = [*overrides, f"run.seed={number}"], folder / f"seed-{number}"
        results[number] = _run(recipe, one, place, resume, force)
        _exit_if_interrupted(results[number])
    if all(result.leads for result in results.values()):
        report_seeds(folder, results, json)


def _run(
    recipe: Path, overrides: list[str], folder: Path, resume: bool, force: bool
) -> TrainingResult:
    """Train once; if a signal ends the run, say how to continue it."""
    from gsp_deploy.errors import UsageError
    from gsp_deploy.training import load_recipe
    from gsp_deploy.training import train as run

    planned = load_recipe(recipe, overrides)
    if force and recipe.is_file() and folder.resolve() == recipe.resolve().parent:
        raise UsageError(
            f"{recipe} is read, and --force would replace what is in {folder}; choose another "
            "folder"
        )
    existing_data(planned.data.spec)
    command = _command(recipe, overrides)
    with _Screen() as screen:
        result = run(planned, folder, resume=resume, force=force, command=command, observer=screen)
    if result.interrupted and result.leads:
        again = [*shlex.split(command), "-o", str(folder), "--resume"]
        show.err.print(
            f"interrupted at step {result.steps} of {result.total_steps}; the state is saved, "
            f"continue with: {shlex.join(again)}",
            soft_wrap=True,  # to be copied as one line
        )
    return result


def _exit_if_interrupted(result: TrainingResult) -> None:
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _numbers(seeds: str) -> list[int]:
    """Return the seeds of `0,1,2`, each once."""
    from gsp_deploy.errors import UsageError

    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise UsageError(f"--seeds: expected different whole numbers such as 0,1,2, got {seeds!r}")
    return [int(part) for part in parts]


def _folder(recipe: Path, data: str | None, fold: str | None) -> Path:
    """Return the default folder of a run."""
    from gsp_deploy.data import kind_of

    kind = [] if data is None else [kind_of(data)]
    number = [] if fold is None else [f"fold{fold.partition('/')[0]}"]
    return Path("runs") / "-".join([recipe.stem, *kind, *number])


def _command(recipe: Path, overrides: list[str]) -> str:
    """Return the command that reproduces the run, without its folder and --resume."""
    words = ["gsp-deploy", "train", recipe.as_posix()]
    for override in overrides:
        words += ["--set", override]
    return shlex.join(words)


class _Screen:
    """A progress bar on a terminal; in a log, one line per validation."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Any = None
        self._total = 0
        self._validated = ""

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def started(self, plan: RunPlan) -> None:
        self._total = plan.total_steps
        show.note(
            f"training on {counted(plan.training_images, 'image')} of "
            f"{counted(plan.training_classes, 'class', 'classes')}, "
            f"validating on {plan.validation_images:,} of {plan.validation_classes:,} others"
        )
        show.note(
            f"{plan.parameters:,} parameters, {counted(plan.total_steps, 'step')} "
            f"({plan.steps_per_epoch:,} an epoch) on {plan.device}"
        )
        if plan.first_step:
            show.note(f"continuing after step {plan.first_step:,}")
        for note in plan.notes:
            show.remark(note)
        self._bar = self._stack.enter_context(show.progress("training", plan.total_steps))
        self._bar.update(self._bar.task_ids[0], completed=plan.first_step)

    def stepped(self, record: StepRecord) -> None:
        text = f"loss {record.loss:.3f}{self._validated}"
        self._bar.update(self._bar.task_ids[0], completed=record.step, description=text)

    def evaluated(self, step: int, metrics: dict[str, float], is_best: bool) -> None:
        figures = f"R@1 {metrics['recall_at_1']:.3f}  MAP@R {metrics['map_at_r']:.3f}"
        self._validated = f"  {figures}"
        clock = time.strftime("%H:%M:%S")
        best = "  best so far" if is_best else ""
        show.note(f"{clock}  step {step:,} of {self._total:,}  {figures}{best}")
