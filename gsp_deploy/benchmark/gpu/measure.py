"""Measure the stages of all engines of one run and of their twins, with and without graphs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from gsp_deploy.artifact.engine_source import onnx_of
from gsp_deploy.base.progress import Announce
from gsp_deploy.benchmark.entrants import Entrant
from gsp_deploy.benchmark.gpu.layers import LayerMap, LayerProfile, modules_of, profile_layers
from gsp_deploy.benchmark.gpu.result import ComputeCost, GpuResult
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import Sustained, run_sustained
from gsp_deploy.benchmark.gpu.telemetry import open_telemetry
from gsp_deploy.benchmark.inputs import example_inputs
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.benchmark.timing import MILLISECONDS, Clock, Rounds, interleave, ratio_quartiles
from gsp_deploy.engine.api import load_tensorrt, runtime_for
from gsp_deploy.errors import GspDeployError, MissingCapabilityError
from gsp_deploy.runtime import EmbeddingSession
from gsp_deploy.runtime.timeline import STAGES, Timeline

_COMPUTE = STAGES.index("compute")
_PROFILED_RUNS = 20


@dataclass(frozen=True)
class _Pair:
    """One engine, with CUDA graphs (None if it has none) and without."""

    graphs: Timeline | None
    plain: Timeline

    @property
    def asked(self) -> Timeline:
        return self.plain if self.graphs is None else self.graphs


def measure_gpu(
    entrants: Sequence[Entrant],
    batch: int,
    settings: BenchmarkSettings,
    observe: Announce,
    clock: Clock,
) -> tuple[dict[EmbeddingSession, GpuResult], list[str]]:
    """Return the result of each engine, and notes on what could not be measured."""
    engines = [e for e in entrants if "timeline" in e.session.capabilities]
    if not engines:
        return {}, []
    observe(f"batch {batch}: stages on the GPU, with CUDA graphs and without")
    notes: list[str] = []
    with ExitStack() as stack:
        pairs = {
            session: _open_pair(session, batch, settings, clock, stack)
            for entrant in engines
            for session in entrant.sessions
            if "timeline" in session.capabilities
        }
        runs = [run for pair in pairs.values() for run in (pair.graphs, pair.plain) if run]
        interleave([run.run for run in runs], _warm(settings), clock)
        for run in runs:
            run.rows.clear()
        interleave([run.run for run in runs], _counted(settings), clock)
        found: dict[EmbeddingSession, GpuResult] = {}
        for entrant in engines:
            extras = _Extras(entrant, batch, settings, clock, notes)
            found[entrant.session] = _result(entrant, pairs, extras, observe)
    return found, notes


def _warm(settings: BenchmarkSettings) -> Rounds:
    # At least two: the first run prepares a shape and the second captures it.
    return Rounds(0, max(settings.warmup, 2))


def _counted(settings: BenchmarkSettings) -> Rounds:
    return Rounds(0, settings.repeats, settings.seconds)


def _open_pair(
    session: EmbeddingSession,
    batch: int,
    settings: BenchmarkSettings,
    clock: Clock,
    stack: ExitStack,
) -> _Pair:
    inputs = example_inputs(session, batch, settings)
    cold = settings.l2 == "cold"

    def staged(of: EmbeddingSession) -> Timeline:
        run = of.timeline(inputs, cold_l2=cold, clock=clock)
        stack.callback(run.close)
        return run

    if session.no_graphs is not None:
        return _Pair(None, staged(session))
    plain = stack.enter_context(session.another(cuda_graphs=False))
    return _Pair(staged(session), staged(plain))


class _Extras:
    """The measurements of an engine besides its stages: layers and a sustained run."""

    def __init__(
        self,
        entrant: Entrant,
        batch: int,
        settings: BenchmarkSettings,
        clock: Clock,
        notes: list[str],
    ) -> None:
        self._name, self._session = entrant.name, entrant.session
        self._inputs = example_inputs(self._session, batch, settings)
        self._settings, self._clock, self._notes = settings, clock, notes

    def layers(self) -> LayerProfile | None:
        try:
            source, manifest = onnx_of(self._session.info.path, self._session.info.engine)
            modules = LayerMap(modules_of(source))
            tensorrt = load_tensorrt(runtime_for(manifest))
        except (GspDeployError, ModuleNotFoundError) as error:
            self._notes.append(f"no layers for {self._name}: {error}")
            return None
        with self._session.another(cuda_graphs=False) as plain:
            return profile_layers(plain, tensorrt, self._inputs, _PROFILED_RUNS, modules)

    def sustained(self) -> Sustained | None:
        seconds = self._settings.sustained
        properties = self._session.device_properties()
        if seconds is None or properties is None:
            return None
        with ExitStack() as stack:
            source = None
            try:
                source = stack.enter_context(open_telemetry(properties))
            except MissingCapabilityError as error:
                self._notes.append(f"no clocks, power or temperature: {error}")

            def task() -> None:
                self._session.infer(self._inputs, ("embedding",))

            return run_sustained(task, len(self._inputs), seconds, source, self._clock)


def _result(
    entrant: Entrant,
    pairs: dict[EmbeddingSession, _Pair],
    extras: _Extras,
    observe: Announce,
) -> GpuResult:
    pair = pairs[entrant.session]
    twin = None if entrant.twin is None else pairs.get(entrant.twin)
    observe(f"layers of {entrant.name}")
    layers = extras.layers()
    observe(f"sustained run of {entrant.name}")
    return GpuResult(
        with_graphs=None if pair.graphs is None else _times(pair.graphs),
        without_graphs=_times(pair.plain),
        no_graphs=entrant.session.no_graphs,
        cost=None if twin is None else _cost(pair.asked, twin.asked),
        layers=layers,
        sustained=extras.sustained(),
    )


def _times(run: Timeline) -> StageTimes:
    return StageTimes.of(np.array(run.rows))


def _cost(model: Timeline, twin: Timeline) -> ComputeCost:
    times, baseline = (np.array(run.rows)[:, _COMPUTE] for run in (model, twin))
    low, middle, high = ratio_quartiles(times, baseline)
    return ComputeCost(middle, low, high, float(np.median(times - baseline)) * MILLISECONDS)
