"""What a benchmark found, with everything a reader needs to judge the figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.base.environment import Environment
from gsp_deploy.base.files import write_document
from gsp_deploy.base.inputs import read_regular_text
from gsp_deploy.base.schema import from_fields
from gsp_deploy.benchmark.gpu.result import GpuResult
from gsp_deploy.benchmark.settings import BenchmarkSettings
from gsp_deploy.benchmark.timing import MILLISECONDS, Latency, ratio_quartiles
from gsp_deploy.errors import UsageError

DOCUMENT = "bench"
VERSION = 1


@dataclass(frozen=True)
class PoolingCost:
    """A model against its twin: the same network with average pooling, run in the same rounds.

    Attributes:
        twin: latency of the twin.
        ratio: median over rounds of the model's time by the twin's time of that round.
        ratio_low, ratio_high: quartiles of the same.
        extra_ms: median over rounds of the difference, in milliseconds.
    """

    twin: Latency
    ratio: float
    ratio_low: float
    ratio_high: float
    extra_ms: float

    @classmethod
    def of(cls, model: np.ndarray, twin: np.ndarray) -> PoolingCost:
        """Compare times `(rounds,)` in seconds, round by round."""
        low, middle, high = ratio_quartiles(model, twin)
        extra = float(np.median(model - twin)) * MILLISECONDS
        return cls(Latency.of(twin), middle, low, high, extra)


@dataclass(frozen=True)
class CopyTimes:
    """Host memory to device and back, one batch, each alone; both are in the latency too."""

    to_device: Latency
    from_device: Latency


@dataclass(frozen=True)
class BatchResult:
    """One model at one batch size.

    Attributes:
        batch: images in one inference.
        latency: of one inference of the whole batch.
        images_per_second: batch / p50.
        pooling_cost: against the twin; None without one.
        copies: None where the runtime works in host memory, and for engines, whose are in `gpu`.
        gpu: an engine's inference in stages; None for everything else.
        peak_memory_mb: peak resident memory of a process that ran up to this batch size, MiB.
        twin_memory_mb: the same of the twin.
    """

    batch: int
    latency: Latency
    images_per_second: float
    pooling_cost: PoolingCost | None = None
    copies: CopyTimes | None = None
    gpu: GpuResult | None = None
    peak_memory_mb: float | None = None
    twin_memory_mb: float | None = None


@dataclass(frozen=True)
class ImageStages:
    """From a JPEG to the network's input, milliseconds an image on one thread.

    `normalise` is None where the network does it itself.
    """

    source: str
    decode: Latency
    resize: Latency
    normalise: Latency | None


@dataclass(frozen=True)
class ModelResult:
    """One model file: what it is, and how it did.

    Attributes:
        name: file name (whole path where two share it); how results are matched.
        sha256, file_bytes: the file that was measured.
        runtime, device, precision, input: as its session tells.
        backbone: timm name; None for a graph that is not ours.
        head: settings of the pooling head; None for a graph that is not ours.
        solver: solver and steps of the graph, in words; None without one.
        batches: results in the order of the settings.
        preprocessing: None for a head alone.
        idle_memory_mb: resident memory with the runtime imported and no model, MiB.
        no_twin: why there is no twin; None where there is one.
    """

    name: str
    sha256: str
    file_bytes: int
    runtime: str
    device: str
    precision: str
    input: TensorSpec
    backbone: str | None
    head: Mapping[str, Any] | None
    solver: str | None
    batches: tuple[BatchResult, ...]
    preprocessing: ImageStages | None
    idle_memory_mb: float | None
    no_twin: str | None


@dataclass(frozen=True)
class BenchmarkReport:
    """All models of one run.

    Attributes:
        settings: what was asked for.
        environment: machine and versions.
        load_average: of the minute before the run; None where the system does not tell.
        included: what the figures hold and what they leave out, in words.
        models: one entry a model.
        notes: what could not be measured, and why.
    """

    settings: BenchmarkSettings
    environment: Environment
    load_average: float | None
    included: tuple[str, ...]
    models: tuple[ModelResult, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for every model and batch size: the median, and the pooling's cost."""
        return "\n".join(_line(model, result) for model, result in self.results)

    @property
    def results(self) -> list[tuple[ModelResult, BatchResult]]:
        """Every model at every batch size, model by model."""
        return [(model, result) for model in self.models for result in model.batches]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data that `from_dict` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchmarkReport:
        """Build the report from what `to_dict` gave, or JSON made of it.

        Raises:
            UsageError: the data is not such a report.
        """
        return from_fields(cls, data)

    def save(self, path: Path) -> None:
        """Write the report as one versioned JSON document."""
        write_document(path, DOCUMENT, self.to_dict(), VERSION)


def read_report(path: Path) -> BenchmarkReport:
    """Read what `save` wrote.

    Raises:
        UsageError: the file is missing, damaged, or no such document.
    """
    try:
        data = json.loads(read_regular_text(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot read it ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a whole JSON document ({error})") from error
    header = (data.pop("document", None), data.pop("version", None)) if _is_table(data) else None
    if header != (DOCUMENT, VERSION):
        raise UsageError(
            f"{path}: expected a {DOCUMENT!r} document of version {VERSION}, found {header}; "
            "make one with `gsp-deploy bench --save`"
        )
    data.pop("comparison", None)  # what `--json --compare` adds
    try:
        return BenchmarkReport.from_dict(data)
    except (UsageError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: a damaged benchmark result ({error})") from error


def _line(model: ModelResult, result: BatchResult) -> str:
    cost = result.pooling_cost
    relative = "" if cost is None else f", {cost.ratio:.3f} of average pooling's"
    return f"{model.name}, batch {result.batch}: p50 {result.latency.p50:.4g} ms{relative}"


def _is_table(data: object) -> bool:
    return isinstance(data, dict)
