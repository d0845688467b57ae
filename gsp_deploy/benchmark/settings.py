"""The settings of a benchmark; two results are comparable only if their settings are equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from gsp_deploy.base.choices import CudaApi, L2State, RuntimeWord, Wait
from gsp_deploy.errors import UsageError
from gsp_deploy.precision import FloatPrecisionWord
from gsp_deploy.runtime.session import WAITS, SessionOptions

# Fewer rounds than this do not give useful percentiles, however long one inference takes.
FEWEST_ROUNDS = 10
L2_STATES: tuple[str, ...] = get_args(L2State)


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings of `run_benchmark`.

    Args:
        batches: batch sizes, each measured separately.
        warmup: rounds before those that count.
        repeats: rounds that count, per batch size; in a round every network runs once.
        seconds: measure for this long per batch size instead, at least 10 rounds.
        threads: threads of one inference; None leaves the choice to the runtime.
        device: `cpu`, `cuda` or `cuda:N`.
        provider: ONNX Runtime's execution provider; None chooses it by the device.
        ep_libraries: libraries with execution providers, loaded into ONNX Runtime first.
        session_config: entries of ONNX Runtime's session configuration, by name.
        size: height and width for models that leave them open; None takes those of the
            pre-processing, or 7x7 for a head alone.
        twin: compare each model with its twin, the same network with average pooling.
        memory: measure peak memory, each model in its own process.
        cuda_graphs: for engines: run from CUDA graphs; runs without graphs are measured as well.
        wait: for engines: `spin`, `block` or `auto`.
        l2: for engines: `warm`, or `cold` to clear the device's L2 cache before every run.
        sustained: for engines: run each for this many seconds without pause, and record clocks.
        cuda_api: for engines: the library that accesses the device.
        allow_host_code: for engines: load version-compatible ones, which contain machine code.
        runtime: what runs ONNX files: `onnxruntime` (None too) or `openvino`.
        precision: for OpenVINO: what it computes floats in; None takes the file's own if it can.
        requests: for OpenVINO: batches in flight at once. A round still runs one batch; a batch
            runs on the threads of one request.
        model_cache: for OpenVINO: a folder for compiled models.

    Raises:
        UsageError: a value is outside its domain.
    """

    batches: tuple[int, ...] = (1,)
    warmup: int = 5
    repeats: int = 50
    seconds: float | None = None
    threads: int | None = None
    device: str = "cpu"
    provider: str | None = None
    ep_libraries: tuple[str, ...] = ()
    session_config: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    twin: bool = True
    memory: bool = True
    cuda_graphs: bool = True
    wait: Wait = "auto"
    l2: L2State = "warm"
    sustained: float | None = None
    cuda_api: CudaApi = "auto"
    allow_host_code: bool = False
    runtime: RuntimeWord | None = None
    precision: FloatPrecisionWord | None = None
    requests: int = 1
    model_cache: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches", tuple(self.batches))
        object.__setattr__(self, "ep_libraries", tuple(self.ep_libraries))
        if not self.batches or min(self.batches) < 1:
            raise UsageError(f"batch sizes must be at least 1, got {list(self.batches)}")
        if len(set(self.batches)) < len(self.batches):
            raise UsageError(f"expected different batch sizes, got {list(self.batches)}")
        if self.warmup < 0 or self.repeats < 1:
            raise UsageError(
                f"warmup must be at least 0 and repeats at least 1, got {self.warmup} and "
                f"{self.repeats}"
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UsageError(f"seconds must be above 0, got {self.seconds}")
        if self.wait not in WAITS:
            raise UsageError(f"wait must be one of {', '.join(WAITS)}, got {self.wait!r}")
        if self.l2 not in L2_STATES:
            raise UsageError(f"l2 must be one of {', '.join(L2_STATES)}, got {self.l2!r}")
        if self.sustained is not None and not 0 < self.sustained < math.inf:
            raise UsageError(f"sustained must be above 0 seconds, got {self.sustained}")
        if self.size is not None:
            object.__setattr__(self, "size", tuple(self.size))
            if len(self.size) != 2 or min(self.size) < 1:
                raise UsageError(f"size must be height and width, got {self.size}")

    def session_options(self, plugins: Sequence[Path] = ()) -> SessionOptions:
        """Return the options to open the models; `plugins` are the libraries that engines need."""
        return SessionOptions(
            device=self.device,
            threads=self.threads,
            provider=self.provider,
            ep_libraries=tuple(Path(library) for library in self.ep_libraries),
            session_config=self.session_config,
            max_batch=max(self.batches),
            cuda_graphs=self.cuda_graphs,
            cuda_api=self.cuda_api,
            wait=self.wait,
            plugins=tuple(plugins),
            allow_host_code=self.allow_host_code,
            runtime=self.runtime,
            precision=self.precision,
            requests=self.requests,
            model_cache=None if self.model_cache is None else Path(self.model_cache),
        )
