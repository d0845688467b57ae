"""`gsp-deploy tune`: measure accuracy and latency on this device, and choose the best form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.progress import Progress
from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_data, existing_file, existing_path
from gsp_deploy_cli.options.numbers import whole_numbers
from gsp_deploy_cli.options.runtime import DeviceOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.data import Dataset
    from gsp_deploy.tuning import TuningSettings, TuningSpace

choice_option = panel("Choosing one")
space_option = panel("What is tried")
measuring_option = panel("How it is measured")


@dataclass(frozen=True)
class Choice:
    """The limits that the chosen form must keep, and where to write it."""

    max_latency: Annotated[float | None, choice_option(help="Milliseconds of one inference.")] = (
        None
    )
    max_drop: Annotated[
        float | None, choice_option(help="Points of MAP@R that you accept to lose.")
    ] = None
    output: Annotated[
        Path | None, choice_option("--output", "-o", help="Write the chosen form here (.onnx).")
    ] = None


@dataclass(frozen=True)
class Space:
    """What is tried."""

    precision: Annotated[
        str | None, space_option(help="Precisions. (default: fp32,fp16,bf16,int8)")
    ] = None
    steps: Annotated[
        str,
        space_option(help="Numbers of solver steps; certified: as many as the guarantee needs."),
    ] = "certified,1"
    size: Annotated[
        str | None,
        space_option(help="Heights of the input. (default: the model's, and 7/8 and 3/4 of it)"),
    ] = None
    batch: Annotated[str, space_option(help="Batch sizes.")] = "1,8"
    runtime: Annotated[
        str | None,
        space_option(
            help="onnxruntime, openvino or both, as onnxruntime,openvino. (default: openvino too "
            "if it is installed and the device is the CPU)"
        ),
    ] = None

    def runtimes(self, only_onnxruntime: bool) -> tuple[str, ...]:
        """Return the runtimes to measure, the default filled in."""
        from gsp_deploy.base.environment import can_import

        if self.runtime is not None:
            return tuple(self.runtime.split(","))
        if only_onnxruntime or not can_import("openvino"):
            return ("onnxruntime",)
        return "onnxruntime", "openvino"

    def combinations(
        self, dataset: Dataset, calibrate: Path | None, only_onnxruntime: bool
    ) -> TuningSpace:
        """Return the forms to try; int8 only if you ask for it or it can be calibrated."""
        from gsp_deploy.precision import PRECISIONS, WORDS
        from gsp_deploy.tuning import TuningSpace

        asked = self.precision
        precisions = WORDS if asked is None else tuple(asked.split(","))
        if asked is None and calibrate is None and not len(dataset.train):
            precisions = tuple(w for w in WORDS if not PRECISIONS[w].quantised)
            show.note(
                f"note: int8 is left out, {dataset.name} has no training part to calibrate it on; "
                "pass --calibrate FOLDER"
            )
        return TuningSpace(
            precisions=precisions,  # type: ignore[arg-type]
            steps=tuple(_steps(word) for word in self.steps.split(",")),
            sizes=() if self.size is None else whole_numbers("--size", self.size),
            runtimes=self.runtimes(only_onnxruntime),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Measuring:
    """How it is measured."""

    images: Annotated[int, measuring_option(help="About how many test images to score on.")] = 2000
    calibrate: Annotated[
        Path | None,
        measuring_option(
            help="Folder of images for int8. (default: the training part)", callback=existing_path
        ),
    ] = None
    repeats: Annotated[int, measuring_option(help="Timed rounds for each candidate.")] = 30
    engines: Annotated[
        bool,
        measuring_option(
            "--engines",
            help="Also build a TensorRT engine of each form for this GPU, and measure it.",
        ),
    ] = False

    def settings(self, batches: tuple[int, ...], runs_on: DeviceOptions) -> TuningSettings:
        """Return how candidates are measured, at these batch sizes."""
        from gsp_deploy.tuning import TIMING, TuningSettings

        timing = replace(
            TIMING,
            batches=batches,
            repeats=self.repeats,
            device=runs_on.device or ("cuda" if self.engines else "cpu"),
            provider=runs_on.provider,
            threads=runs_on.threads,
        )
        return TuningSettings(
            images=self.images,
            calibrate=self.calibrate,
            benchmark=timing,
            engines=self.engines,
        )


def tune(
    model: Annotated[
        Path,
        typer.Argument(
            help="A gsp-deploy checkpoint (.safetensors), or an adopted network (.onnx).",
            callback=existing_file,
        ),
    ],
    *,
    data: Annotated[
        str,
        typer.Option(
            help="A data set (see `data list`): its test part scores, its training part "
            "calibrates int8. Do not use the data set that you publish results on.",
            callback=existing_data,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; if it has one, that one continues. (default: tune-MODEL, "
            "beside the output or in runs/)"
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
    from gsp_deploy.data import open_dataset
    from gsp_deploy.errors import GateError
    from gsp_deploy.tuning import Limits, choose, deliver
    from gsp_deploy.tuning import tune as run
    from gsp_deploy.tuning.plot import plot_front
    from gsp_deploy_cli.tables.tune import show_tuning

    limits, output = Limits(choice.max_latency, choice.max_drop), choice.output
    _check_output(output, model, limits.are_given, force)
    dataset = open_dataset(data)
    settings = measuring.settings(whole_numbers("--batch", space.batch), runs_on)
    bench = settings.benchmark
    on_cpu = bench.device == "cpu" and bench.provider is None and not settings.engines
    tried = space.combinations(dataset, measuring.calibrate, only_onnxruntime=not on_cpu)
    folder = folder or (Path("runs") if output is None else output.parent) / f"tune-{model.stem}"
    with _progress() as observe:
        tuning = run(
            model, dataset, folder, tried, settings, called=data, force=force, observe=observe
        )
    figure = folder / "front.png"
    try:
        chosen = choose(tuning.points, limits) if limits.are_given else None
    except GateError:
        plot_front(tuning, figure)
        show_tuning(tuning, figure, json)  # before the error says that nothing fits
        raise
    plot_front(tuning, figure, chosen)
    if chosen is not None and output is not None:
        deliver(tuning, chosen, output)
    show_tuning(tuning, figure, json, chosen, output)


def _check_output(output: Path | None, model: Path, has_limits: bool, force: bool) -> None:
    from gsp_deploy.artifact import sidecar_path
    from gsp_deploy.artifact.kind import ONNX, require_kind
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.errors import UsageError
    from gsp_deploy.tuning.delivery import settings_path

    if output is None:
        return
    if not has_limits:
        raise UsageError("-o writes the one that is chosen; pass --max-latency or --max-drop")
    require_kind(output, ONNX, what="an output")
    refuse_inputs_inside(output, [model])
    for file in (output, sidecar_path(output), settings_path(output)):
        refuse_overwrite(file, force)


def _steps(word: str) -> int | None:
    if word == "certified":
        return None
    return whole_numbers("--steps", word, kind="numbers and `certified`")[0]


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield a function that shows each stage: a bar on a terminal, lines in a log."""
    with show.progress("tuning", None) as bar:

        def observe(doing: str, done: int, total: int) -> None:
            bar.update(bar.task_ids[0], description=doing, completed=done, total=total)
            if not show.err.is_terminal:
                show.note(f"{done}/{total} {doing}")

        yield observe
