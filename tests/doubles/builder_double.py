"""A double of TensorRT's builder: it remembers what it was set to, and ends as it is told.

With it, retries and settings that need a GPU, or a machine short of memory, are run where neither
is. It builds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.attempt import Job
from gsp_deploy.engine.log import make_log
from gsp_deploy.engine.network import ParsedNetwork
from gsp_deploy.engine.options import BuildOptions

FLAGS = (
    "TF32",
    "REFIT",
    "STRIP_PLAN",
    "WEIGHT_STREAMING",
    "VERSION_COMPATIBLE",
    "EXCLUDE_LEAN_RUNTIME",
)
FOREIGN = b"of another device"


class ILogger:
    Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0, WARNING=2)


class IProgressMonitor:
    """Nothing: ours subclasses it."""


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+timings"


class Config:
    """`IBuilderConfig`, of a version that has `max_num_tactics`."""

    max_num_tactics: int | None = None

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.workspace: int | None = None
        self.builder_optimization_level: int | None = None
        self.profiles: list[Any] = []
        self.cache: Cache | None = None

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Cache:
        return Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if cache.data == FOREIGN and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


Outcome = bytes | str
Outcomes = Callable[[Config], Outcome]


class Builder:
    """`tensorrt.Builder`; `outcomes` returns a plan, or the message of a failure."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes, self.configs, self.log = outcomes, [], None  # type: ignore[var-annotated]

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        self.configs.append(config)
        outcome = self.outcomes(config)
        if isinstance(outcome, bytes):
            return outcome
        self.log.log(ILogger.Severity.ERROR, outcome)
        return None


def tensorrt_double(config: type = Config) -> TensorRT:
    """Return a `TensorRT` that times tactics, as the one on a Jetson does."""
    module: Any = SimpleNamespace(
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        IBuilderConfig=config,
        BuilderFlag=SimpleNamespace(**{flag: flag for flag in FLAGS}),
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"),
        HardwareCompatibilityLevel=SimpleNamespace(NONE="NONE", AMPERE_PLUS="AMPERE_PLUS"),
    )
    return TensorRT("tensorrt", module, "10.3.0")


def job_of(
    outcomes: Outcomes,
    told: list[str],
    options: BuildOptions | None = None,
    tensorrt: TensorRT | None = None,
) -> tuple[Job, Builder]:
    """Return a job on the double, and the builder that remembers its attempts."""
    tensorrt, builder = tensorrt or tensorrt_double(), Builder(outcomes)
    builder.log = make_log(tensorrt)
    spec = TensorSpec("images", "float32", (-1, 3, 8, 8))
    parsed = ParsedNetwork(
        tensorrt, builder, None, builder.log, Path("model.onnx"), (spec,), (spec,)
    )
    return Job(parsed, (), options or BuildOptions(), told.append, lambda *_: None), builder


def one_after_another(*outcomes: Outcome) -> Outcomes:
    """Return outcomes that do not look at the settings."""
    rest: Iterator[Outcome] = iter(outcomes)
    return lambda config: next(rest)
