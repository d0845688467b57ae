"""Run a benchmark: open the models and their twins, time them in turns, collect the results."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gsp_deploy.artifact.identity import identity
from gsp_deploy.base.environment import Environment
from gsp_deploy.base.progress import Announce
from gsp_deploy.base.words import counted
from gsp_deploy.benchmark.copies import measure_copies
from gsp_deploy.benchmark.entrants import Entrant, open_entrants
from gsp_deploy.benchmark.gpu.measure import measure_gpu
from gsp_deploy.benchmark.gpu.result import GpuResult
from gsp_deploy.benchmark.image_stages import measure_image_stages
from gsp_deploy.benchmark.inputs import example_inputs
from gsp_deploy.benchmark.memory import MemoryUse, measure_memory
from gsp_deploy.benchmark.reliability import trust_notes
from gsp_deploy.benchmark.report import (
    BatchResult,
    BenchmarkReport,
    ImageStages,
    ModelResult,
    PoolingCost,
)
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.benchmark.timing import MILLISECONDS, Clock, Latency, Rounds, interleave
from gsp_deploy.config import GSPConfig
from gsp_deploy.errors import GspDeployError
from gsp_deploy.runtime import EmbeddingSession

OUTPUTS = ("embedding",)


def run_benchmark(
    models: Sequence[str | os.PathLike[str]],
    settings: BenchmarkSettings | None = None,
    *,
    image: Path | None = None,
    plugins: Sequence[Path] = (),
    observe: Announce = lambda message: None,
    clock: Clock = time.perf_counter,
) -> BenchmarkReport:
    """Measure the models and their twins in one run, in turns.

    Args:
        models: `.engine`, `.onnx`, `.safetensors` or `.pt` files.
        settings: what to measure.
        image: image file to time the pre-processing with; None for a synthetic JPEG.
        plugins: plugin libraries that the engines among the models need.
        observe: called with what happens next, for a progress line.
        clock: returns the time in seconds from any start.

    Raises:
        UsageError: there is no model, one file is given twice, or a model does not take the sizes.
        ModelFileError, CheckpointError: a model is missing or damaged.
        MissingCapabilityError: this machine lacks the runtime or the device.
    """
    settings = settings or BenchmarkSettings()
    load, environment = _load_average(), Environment.here()
    paths = [Path(model) for model in models]
    with open_entrants(paths, settings, observe, plugins) as entrants:
        times = {
            batch: _time_batch(entrants, batch, settings, observe, clock)
            for batch in settings.batches
        }
        gpu, notes = _measure_gpu(entrants, settings, observe, clock)
        memory, more = _measure_memories(entrants, settings, plugins, observe)
        figures = _Figures(times, gpu, memory)
        results = tuple(_model_result(entrant, figures, settings, image) for entrant in entrants)
    batches = [batch for result in results for batch in result.batches]
    costs = [batch.pooling_cost for batch in batches if batch.pooling_cost is not None]
    return BenchmarkReport(
        settings=settings,
        environment=environment,
        load_average=load,
        included=_included(settings),
        models=results,
        notes=(
            *trust_notes(load, environment.cores, costs),
            *_unreached(entrants, settings),
            *notes,
            *more,
        ),
    )


def _unreached(entrants: Sequence[Entrant], settings: BenchmarkSettings) -> list[str]:
    """Return a note for each model whose provider chooses its own threads."""
    if settings.threads is None:
        return []
    return [
        f"{entrant.name}: the number of threads does not reach {entrant.session.info.device}, "
        "which chooses its own"
        for entrant in entrants
        if not entrant.session.info.threads_reach
    ]


Times = dict[EmbeddingSession, np.ndarray]
GpuResults = dict[EmbeddingSession, GpuResult]
Memories = dict[EmbeddingSession, MemoryUse]


@dataclass(frozen=True)
class _Figures:
    """The measurements of all networks, including twins.

    Attributes:
        times: seconds of every round, `(rounds,)`, by batch size and session.
        gpu: stages of the engines, by batch size and session.
        memory: memory use by session, as far as it could be measured.
    """

    times: dict[int, Times]
    gpu: dict[int, GpuResults]
    memory: Memories


def _time_batch(
    entrants: Sequence[Entrant],
    batch: int,
    settings: BenchmarkSettings,
    observe: Announce,
    clock: Clock,
) -> Times:
    """Return the seconds of every round, `(rounds,)`, of every network."""
    sessions = [session for entrant in entrants for session in entrant.sessions]
    tasks = [
        partial(session.infer, example_inputs(session, batch, settings), OUTPUTS)
        for session in sessions
    ]
    duration = f"{settings.seconds:g} s" if settings.seconds else f"{settings.repeats} rounds"
    observe(f"batch {batch}: {duration} of {len(tasks)} networks in turns")
    times = interleave(tasks, Rounds.of(settings), clock)
    return dict(zip(sessions, times.T, strict=True))


def _measure_gpu(
    entrants: Sequence[Entrant], settings: BenchmarkSettings, observe: Announce, clock: Clock
) -> tuple[dict[int, GpuResults], list[str]]:
    """Return the engines' results on the GPU by batch size, and notes on what failed."""
    found, notes = {}, []
    for batch in settings.batches:
        found[batch], more = measure_gpu(entrants, batch, settings, observe, clock)
        notes += more
    return found, list(dict.fromkeys(notes))


def _measure_memories(
    entrants: Sequence[Entrant],
    settings: BenchmarkSettings,
    plugins: Sequence[Path],
    observe: Announce,
) -> tuple[Memories, list[str]]:
    """Return the memory use of every network, and notes on what failed."""
    found: Memories = {}
    notes = []
    for entrant in entrants if settings.memory else ():
        observe(f"memory of {entrant.name}")
        for session in entrant.sessions:
            try:
                found[session] = measure_memory(session.info.path, settings, plugins)
            except GspDeployError as error:
                notes.append(f"no memory figure for {entrant.name}: {error}")
    return found, notes


def _model_result(
    entrant: Entrant, figures: _Figures, settings: BenchmarkSettings, image: Path | None
) -> ModelResult:
    info, config = entrant.session.info, entrant.config
    idle = figures.memory.get(entrant.session)
    return ModelResult(
        name=entrant.name,
        sha256=identity(info.path),
        file_bytes=info.path.stat().st_size,
        runtime=info.runtime,
        device=info.device,
        precision=info.precision,
        input=info.input,
        backbone=None if config is None else config.backbone,
        head=None if config is None else {"kind": config.head.KIND, **asdict(config.head)},
        solver=_solver(entrant),
        batches=tuple(
            _batch_result(entrant, batch, figures, settings) for batch in settings.batches
        ),
        preprocessing=_image_stages(entrant, image, settings),
        idle_memory_mb=None if idle is None else idle.idle_mb,
        no_twin=entrant.no_twin,
        arithmetic=info.arithmetic,
    )


def _batch_result(
    entrant: Entrant, batch: int, figures: _Figures, settings: BenchmarkSettings
) -> BatchResult:
    times, memory, twin = figures.times[batch], figures.memory, entrant.twin
    seconds = times[entrant.session]
    latency = Latency.of(seconds)
    return BatchResult(
        batch=batch,
        latency=latency,
        images_per_second=batch * MILLISECONDS / latency.p50,
        pooling_cost=None if twin is None else PoolingCost.of(seconds, times[twin]),
        copies=measure_copies(entrant.session, batch, settings),
        gpu=figures.gpu[batch].get(entrant.session),
        peak_memory_mb=_peak(memory, entrant.session, batch),
        twin_memory_mb=_peak(memory, twin, batch),
    )


def _peak(memory: Memories, session: EmbeddingSession | None, batch: int) -> float | None:
    use = None if session is None else memory.get(session)
    return None if use is None else use.peaks_mb[batch]


def _image_stages(
    entrant: Entrant, image: Path | None, settings: BenchmarkSettings
) -> ImageStages | None:
    info = entrant.session.info
    if info.preprocessing is None:
        return None
    normalises_inside = info.input.dtype == "uint8"
    rounds = Rounds.brief(settings)
    return measure_image_stages(image, info.preprocessing, normalises_inside, rounds)


def _solver(entrant: Entrant) -> str | None:
    """Return the solver and its steps in words, from the export's manifest or the checkpoint."""
    manifest, config = entrant.session.info.manifest, entrant.config
    if manifest is not None:
        found = manifest.certificate
        return None if found is None else found.steps_in_words
    if config is None or not isinstance(config.head, GSPConfig):
        return None
    return f"{config.head.solver}, at most {counted(config.head.steps, 'step')}"


def _included(settings: BenchmarkSettings) -> tuple[str, ...]:
    on_device = settings.device.startswith("cuda")
    return (
        "latency: one inference, from a prepared batch in host memory to its embeddings there as "
        "float32",
        "not included: decoding, resizing and normalising, which have their own figures (a graph "
        "that takes pixels normalises inside)",
        "copies: included in the latency, and also have their own figures"
        if on_device
        else "copies: none, the runtime works in host memory",
        "GAP: the same network with average pooling, in the same rounds; ratios are medians "
        "over rounds",
        "memory: peak resident set of a process with only this model, host only",
    )


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # not on every system
        return None
