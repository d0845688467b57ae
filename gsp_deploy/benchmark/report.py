"""The result of a benchmark, with everything a reader needs to judge the figures."""

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
    """A model compared with its twin, the same network with average pooling, in the same rounds.

    Attributes:
        twin: latency of the twin.
        ratio: median over rounds of the model's time divided by the twin's time in that round.
        ratio_low, ratio_high: quartiles of these ratios.
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
    """Times of one batch from host to device and back, each alone; the latency includes both."""

    to_device: Latency
    from_device: Latency


@dataclass(frozen=True)
class BatchResult:
    """One model at one batch size.

    Attributes:
        batch: images in one inference.
        latency: of one inference of the whole batch.
        images_per_second: batch / p50.
        pooling_cost: comparison with the twin; None if there is no twin.
        copies: copies to the device and back; None if the runtime works in host memory, and for
            engines, because `gpu` has their copies.
        gpu: stages of an engine's inference; None for other models.
        peak_memory_mb: peak resident memory of a process that ran up to this batch size, MiB.
        twin_memory_mb: the same for the twin.
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
    """Times from a JPEG to the network's input, in milliseconds per image on one thread.

    `normalise` is None if the network normalises the image itself.
    """

    source: str
    decode: Latency
    resize: Latency
    normalise: Latency | None


@dataclass(frozen=True)
class ModelResult:
    """One model file: its properties and its results.

    Attributes:
        name: file name, or the path if two models have the same name; comparisons match by it.
        sha256, file_bytes: hash and size of the file that was measured.
        runtime, device, precision, input: as its session reports them.
        backbone: timm name; None if gsp-deploy did not export the graph.
        head: settings of the pooling head; None if gsp-deploy did not export the graph.
        solver: solver and steps of the graph, in words; None if there is none.
        batches: results in the order of the settings.
        preprocessing: times of the pre-processing; None for a head alone.
        idle_memory_mb: resident memory with the runtime imported and no model, MiB.
        no_twin: why there is no twin; None if there is one.
        arithmetic: how the runtime departs from the file's precision, or what was pinned; empty if
            it computes as the file says.
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
    arithmetic: str = ""


@dataclass(frozen=True)
class BenchmarkReport:
    """All models of one run.

    Attributes:
        settings: settings of the run.
        environment: machine and versions.
        load_average: load in the minute before the run; None if the system does not report it.
        included: what the figures include and what they leave out, in words.
        models: one entry per model.
        notes: warnings, and what could not be measured and why.
    """

    settings: BenchmarkSettings
    environment: Environment
    load_average: float | None
    included: tuple[str, ...]
    models: tuple[ModelResult, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line per model and batch size: the median, and the cost of the pooling."""
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
        """Build the report from the output of `to_dict`, or from its JSON.

        Raises:
            UsageError: the data is not a benchmark report.
        """
        return from_fields(cls, data)

    def save(self, path: Path) -> None:
        """Write the report as one versioned JSON document."""
        write_document(path, DOCUMENT, self.to_dict(), VERSION)


def read_report(path: Path) -> BenchmarkReport:
    """Read a report that `save` wrote.

    Raises:
        UsageError: the file is missing or damaged, or is another document.
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
    data.pop("comparison", None)  # added by `--json --compare`
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
