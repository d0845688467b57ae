"""Comparing results: what is refused, what passes, what fails the gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, compare
from gsp_deploy.benchmark.report import PoolingCost
from gsp_deploy.errors import GateError, UsageError

SETTINGS = BenchmarkSettings(warmup=0, repeats=5, memory=False)


@pytest.fixture
def report(fake_run) -> BenchmarkReport:
    return fake_run(SETTINGS, a=[10], b=[20])


def with_model(report: BenchmarkReport, **changes: object) -> BenchmarkReport:
    first, *others = report.models
    return replace(report, models=(replace(first, **changes), *others))


def with_twin(report: BenchmarkReport, twin_ms: float) -> BenchmarkReport:
    """Give the first model a twin that took `twin_ms` in every round."""
    first = report.models[0]
    (result,) = first.batches
    model = np.full(5, result.latency.p50 / 1000)
    cost = PoolingCost.of(model, np.full(5, twin_ms / 1000))
    return with_model(report, no_twin=None, batches=(replace(result, pooling_cost=cost),))


def test_a_report_prints_one_line_per_result(report: BenchmarkReport) -> None:
    assert str(report).splitlines() == ["a.onnx, batch 1: p50 10 ms", "b.onnx, batch 1: p50 20 ms"]
    (first, _) = str(with_twin(report, 8)).splitlines()
    assert first == "a.onnx, batch 1: p50 10 ms, 1.250 of average pooling's"


def test_equal_results_pass(report: BenchmarkReport) -> None:
    comparison = compare(report, report, 0.0)
    assert [change.relative for change in comparison.changes] == [0, 0]
    comparison.check()
    assert comparison.to_dict()["passed"] is True


def test_a_slower_model_fails_beyond_the_limit_only(fake_run, report: BenchmarkReport) -> None:
    slower = fake_run(SETTINGS, a=[10], b=[23])
    compare(report, slower, 0.16).check()
    with pytest.raises(GateError, match=r"b.onnx, batch 1: p50 in ms .*\+15.0%.* 1 of 2") as raised:
        compare(report, slower, 0.10).check()
    assert raised.value.exit_code == 3


def test_a_faster_model_passes(fake_run, report: BenchmarkReport) -> None:
    compare(report, fake_run(SETTINGS, a=[5], b=[2]), 0.0).check()


def test_ratios_are_taken_round_by_round() -> None:
    drift = np.array([1.0, 2.0, 5.0, 40.0, 80.0])  # the machine slows down for both
    cost = PoolingCost.of(1.03 * drift, drift)
    assert (cost.ratio_low, cost.ratio, cost.ratio_high) == pytest.approx((1.03, 1.03, 1.03))
    assert cost.extra_ms == pytest.approx(0.03 * 5 * 1000)


def test_the_ratio_to_the_twin_is_gated_if_there_is_one(fake_run, report) -> None:
    old = with_twin(report, twin_ms=8)
    twice_as_slow_machine = with_twin(fake_run(SETTINGS, a=[20], b=[20]), twin_ms=16)
    compare(old, twice_as_slow_machine, 0.01).check()
    costlier_pooling = with_twin(fake_run(SETTINGS, a=[12], b=[20]), twin_ms=8)
    with pytest.raises(GateError, match=r"ratio to GAP went from 1.250 to 1.500 \(\+20.0%\)"):
        compare(old, costlier_pooling, 0.1).check()
    with pytest.raises(GateError, match=r"p50 in ms went from 10.000 to 20.000"):
        compare(old, twice_as_slow_machine, 0.01, gate="latency").check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batches": (1, 8)}, "batches was 1, now it is 1,8"),
        ({"threads": 2}, "threads was left out, now it is 2"),
        ({"threads": 2, "repeats": 6}, "repeats was 5, now it is 6; threads was left out, now"),
        ({"repeats": 6}, "repeats was 5, now it is 6"),
        ({"device": "cuda"}, "device was cpu, now it is cuda"),
        ({"twin": False}, "twin was True, now it is False"),
    ],
)
def test_other_settings_are_refused(report: BenchmarkReport, change: dict, words: str) -> None:
    other = replace(report, settings=replace(report.settings, **change))
    with pytest.raises(UsageError, match=words) as raised:
        compare(report, other, 0.1)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "c.onnx"}, "models were a.onnx, b.onnx, now they are c.onnx, b.onnx"),
        ({"precision": "fp16"}, "precision of a.onnx was fp32, now it is fp16"),
        ({"runtime": "torch 2"}, "runtime of a.onnx was fake, now it is torch"),
        ({"device": "CUDA"}, "device of a.onnx was cpu, now it is CUDA"),
        ({"backbone": "resnet50"}, "backbone of a.onnx was None, now it is resnet50"),
        ({"head": {"num_prototypes": 9}}, "head.num_prototypes of a.onnx was None, now it is 9"),
        ({"no_twin": None}, "has_twin of a.onnx was False, now it is True"),
    ],
)
def test_other_models_are_refused(report: BenchmarkReport, change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compare(report, with_model(report, **change), 0.1)


def test_another_machine_is_refused(report: BenchmarkReport) -> None:
    other = replace(report, environment=replace(report.environment, cores=999))
    with pytest.raises(UsageError, match=r"cores was .*, now it is 999"):
        compare(report, other, 0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "0" * 64},
        {"solver": "newton, 9 steps"},
        {"runtime": "fake 2.0"},
        {"head": {"solver": "newton", "iterations": 9}},
    ],
)
def test_steps_weights_and_versions_may_differ(report: BenchmarkReport, change: dict) -> None:
    compare(report, with_model(report, **change), 0.1).check()


def test_an_unknown_gate_is_refused(report: BenchmarkReport) -> None:
    with pytest.raises(UsageError, match="gate must be one of ratio, latency"):
        compare(report, report, 0.1, gate="throughput")  # type: ignore[arg-type]
