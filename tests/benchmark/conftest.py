"""A clock that only moves when a fake model runs, and reports made with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact import TensorSpec
from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, run_benchmark
from gsp_deploy.runtime import EmbeddingSession, SessionOptions
from gsp_deploy.runtime.session import SessionInfo


class FakeClock:
    """A clock that only `advance` moves; `log` lists who moved it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.log.append(name)


class FakeSession(EmbeddingSession):
    """A model that takes the milliseconds in `durations`, in a cycle, times the batch."""

    def __init__(self, path: Path, clock: FakeClock, durations: Sequence[float]) -> None:
        info = SessionInfo(
            path=path,
            runtime="fake 1.0",
            device="cpu",
            precision="fp32",
            input=TensorSpec("features", "float32", ("batch", 3, "height", "width")),
            outputs=("embedding",),
            embedding_dim=2,
            preprocessing=None,
        )
        super().__init__(info, SessionOptions())
        self.clock, self.durations, self.runs = clock, durations, 0

    def infer(self, inputs: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        milliseconds = self.durations[self.runs % len(self.durations)]
        self.runs += 1
        self.clock.advance(self.info.path.name, milliseconds / 1000 * len(inputs))
        return {"embedding": np.zeros((len(inputs), 2), np.float32)}

    def close(self) -> None:
        self.clock.log.append(f"closed {self.info.path.name}")


MakeReport = Callable[..., BenchmarkReport]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake_run(clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeReport:
    """Run the benchmark on fake models: `fake_run(settings, **{"a.onnx": [ms, ms, ...]})`."""

    def run(
        settings: BenchmarkSettings | None = None, **durations: Sequence[float]
    ) -> BenchmarkReport:
        paths = []
        for name in durations:
            paths.append(tmp_path / f"{name}.onnx")
            paths[-1].write_bytes(b"a model")
        monkeypatch.setattr(
            "gsp_deploy.benchmark.entrants.open_with",
            lambda path, options: FakeSession(path, clock, durations[path.stem]),
        )
        settings = settings or BenchmarkSettings(warmup=0, repeats=10, memory=False)
        return run_benchmark(paths, settings, clock=clock)

    return run
