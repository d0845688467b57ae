"""Stages, graphs, cold caches and sustained runs, on test doubles with a counted time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from host_device import HostDevice
from tensorrt_double import install, write_engine

from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, compare, run_benchmark
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import run_sustained
from gsp_deploy.benchmark.gpu.telemetry.sample import Sample, Source
from gsp_deploy.errors import UsageError
from gsp_deploy.runtime import open_session
from gsp_deploy_cli.main import main

QUICK = BenchmarkSettings((2,), warmup=1, repeats=3, device="cuda", memory=False)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    return install(monkeypatch)


@pytest.fixture
def engine(device: HostDevice, tiny_export: str, tmp_path: Path) -> Path:
    return write_engine(device, Path(tiny_export), tmp_path / "tiny.engine")


class Ticks:
    """A clock that moves by a millisecond on every reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


@pytest.mark.parametrize("cold", [False, True])
def test_events_separate_the_stages(engine, device, cold: bool) -> None:
    inputs = np.zeros((2, 3, 32, 32), np.float32)
    with open_session(engine) as session:
        run = session.timeline(inputs, cold_l2=cold, clock=Ticks())
        before = session.embed(inputs)
        for _ in range(4):
            run.run()
        np.testing.assert_array_equal(session.embed(inputs), before)
        times = StageTimes.of(np.array(run.rows))
        # One piece of work a millisecond, and the host's clock moves once between its readings:
        # three times in a run, less the millisecond that emptying the cache takes.
        assert times.compute.p50 == pytest.approx(1)
        assert times.from_device.p50 == pytest.approx(1)
        assert times.to_device.p50 == pytest.approx(1)
        assert times.enqueue.p50 == pytest.approx(1)
        assert times.end_to_end.p50 == pytest.approx(2 if cold else 3)
        run.close()
    assert device.alive() == {}


def test_a_batch_that_the_engine_cannot_take_at_once(engine) -> None:
    with open_session(engine) as session, pytest.raises(UsageError, match="batches of 1:4:8x3x32"):
        session.timeline(np.zeros((9, 3, 32, 32), np.float32))


def test_a_report_has_stages_with_graphs_and_without(engine, device) -> None:
    report = run_benchmark([engine], QUICK)
    (result,) = report.models[0].batches
    assert result.gpu is not None
    assert result.gpu.with_graphs is not None
    assert result.gpu.without_graphs.compute.rounds == 3
    assert result.copies is None
    assert "not beside it" in report.models[0].no_twin
    assert any("no layers for tiny.engine" in note for note in report.notes)
    assert BenchmarkReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert device.alive() == {}


def test_graphs_that_are_off_are_reported(engine) -> None:
    settings = BenchmarkSettings((2,), warmup=0, repeats=2, device="cuda", memory=False,
                                 cuda_graphs=False, sustained=0.05)  # fmt: skip
    gpu = run_benchmark([engine], settings).models[0].batches[0].gpu
    assert (gpu.with_graphs, gpu.no_graphs) == (None, "switched off")
    assert gpu.stages is gpu.without_graphs
    assert gpu.sustained.images_per_second > 0


@pytest.mark.parametrize(
    "changes", [{"cuda_graphs": False}, {"wait": "spin"}, {"l2": "cold"}, {"sustained": 1.0}]
)
def test_results_of_other_settings_do_not_compare(engine, changes) -> None:
    old = run_benchmark([engine], QUICK)
    new = BenchmarkReport(**{**old.__dict__, "settings": QUICK.__class__(
        **{**QUICK.__dict__, **changes})})  # fmt: skip
    with pytest.raises(UsageError, match=f"{next(iter(changes))} was"):
        compare(old, new, 0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"wait": "x"}, "wait must be"), ({"l2": "x"}, "l2 must be"), ({"sustained": 0}, "sustained")],
)
def test_settings_are_checked(changes, words) -> None:
    with pytest.raises(UsageError, match=words):
        BenchmarkSettings(**changes)


class Warming(Source):
    """A card that draws 20 W and is throttled after a while."""

    name = "fake"

    def __init__(self) -> None:
        self.reads = 0

    def read(self, seconds: float) -> Sample:
        self.reads += 1
        return Sample(seconds, 1000 - self.reads, None, 20.0, 50, ("power cap",) * (self.reads > 1))


@pytest.mark.parametrize(("slower", "source"), [(1.0, None), (2.0, None), (1.0, Warming())])
def test_a_sustained_run_reports_throttling(slower: float, source: Source | None) -> None:
    now = [0.0]

    def task() -> None:
        now[0] += 0.01 if now[0] < 5 else 0.01 * slower

    found = run_sustained(task, 4, 10.0, source, lambda: now[0])
    assert found.seconds == pytest.approx(10, abs=0.05)
    assert found.first == pytest.approx(400)
    assert found.last == pytest.approx(400 / slower)
    assert found.throttled == (slower > 1 or source is not None)
    if source is None:
        assert (found.telemetry, found.joules_per_image) == (None, None)
    else:
        assert found.joules_per_image == pytest.approx(20 * 10 / 4000, rel=0.01)


def run(monkeypatch, capsys, words: list[str]) -> str:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert not stop.value.code, printed.err
    return printed.out


def test_bench_prints_an_equivalent_trtexec_command(engine, monkeypatch, capsys) -> None:
    words = ["gsp-deploy", "bench", str(engine), "--trtexec", "--batch", "2,8", "--wait", "spin"]
    out = run(monkeypatch, capsys, words)
    assert out.count("--shapes=images:2x3x32x32") == 2
    assert out.count("--shapes=images:8x3x32x32") == 2
    assert out.count("--includeDataTransfers") == 2


def test_bench_shows_the_stages(engine, monkeypatch, capsys) -> None:
    words = ["gsp-deploy", "bench", str(engine), "--no-memory", "--repeats", "3"]
    out = run(monkeypatch, capsys, words)
    assert "In stages on the GPU" in out
    assert {"on", "off"} <= set(out.replace("│", " ").split())
