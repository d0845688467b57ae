"""What `bench` prints of engines: the figures that were measured, and nothing that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gsp_deploy.benchmark import BenchmarkSettings
from gsp_deploy.benchmark.gpu.layers import UNATTRIBUTED, LayerProfile, LayerTime
from gsp_deploy.benchmark.gpu.result import ComputeCost, GpuResult
from gsp_deploy.benchmark.gpu.stages import StageTimes
from gsp_deploy.benchmark.gpu.sustained import Sustained
from gsp_deploy.benchmark.gpu.telemetry.sample import Telemetry
from gsp_deploy.benchmark.timing import Latency
from gsp_deploy_cli.tables import bench_gpu

PLAIN = GpuResult(None, StageTimes.of(np.array([[1, 20, 3, 4, 28]]) * 1e-3), "switched off")
GRAPHS = replace(
    PLAIN, with_graphs=StageTimes.of(np.array([[1, 17, 3, 2, 23]]) * 1e-3), no_graphs=None
)
COST = ComputeCost(ratio=1.034, ratio_low=1.021, ratio_high=1.052, extra_ms=0.567)
TELEMETRY = Telemetry("NVML", 42, (900.0, 1350.0, 1410.0), (41.0, 77.0), 212.5, 100.0,
                      {"power cap": 0.25})  # fmt: skip
SUSTAINED = Sustained(60.5, 4321.0, 4400.0, 4200.0, Latency.of(np.ones(3)), 0.0491, True, TELEMETRY)


def layers(count: int) -> LayerProfile:
    """So many parts of the backbone, the head, and what nothing is known of."""
    backbone = [LayerTime(f"conv{i}", f"backbone.layer{i}", 1 + i) for i in range(count)]
    head = LayerTime("gsp/embed", "head: embed", 0.5)
    return LayerProfile((*backbone, head, LayerTime("foreign", UNATTRIBUTED, 0.25)), 20)


def report_of(*results: GpuResult | None) -> Any:
    """As much of a report as is read here: a model for each result, at one batch size."""
    models = [
        SimpleNamespace(name=f"m{i}.engine", batches=[SimpleNamespace(batch=8, gpu=result)])
        for i, result in enumerate(results)
    ]
    pairs = [(model, result) for model in models for result in model.batches]
    return SimpleNamespace(models=models, results=pairs)


Print = Callable[..., list[list[str]]]


@pytest.fixture
def printed(capsys) -> Print:
    """Return a function that shows results, one a model, and returns the words of each line."""

    def show(*results: GpuResult | None) -> list[list[str]]:
        bench_gpu.show_gpu(report_of(*results))
        told = capsys.readouterr()
        return [line.replace("│", " ").split() for line in (told.out + told.err).splitlines()]

    return show


def test_without_engines_nothing_is_printed(printed: Print) -> None:
    assert printed(None, None) == []


def test_stages_stand_in_their_columns_with_graphs_and_without(printed: Print) -> None:
    lines = printed(GRAPHS, PLAIN, None)
    assert ["m0.engine", "8", "on", "1", "17", "3", "2", "23"] in lines
    assert ["m0.engine", "8", "off", "1", "20", "3", "4", "28"] in lines
    assert ["m1.engine", "8", "off", "1", "20", "3", "4", "28"] in lines
    assert sum(line[:1] == ["m1.engine"] for line in lines) == 1
    assert ["note:", "no", "CUDA", "graphs:", "switched", "off"] in lines


def test_the_cost_is_printed_where_there_is_a_twin(printed: Print) -> None:
    lines = printed(replace(GRAPHS, cost=COST), GRAPHS)
    assert ["m0.engine", "8", "+0.567", "1.034", "1.021-1.052"] in lines
    assert not any("average" in line for line in printed(GRAPHS))


@pytest.mark.parametrize("count", [3, bench_gpu.SHOWN_PARTS - 1, bench_gpu.SHOWN_PARTS + 4])
def test_parts_are_the_greatest_first_and_add_up(printed: Print, count: int) -> None:
    profile = layers(count)
    lines = printed(replace(PLAIN, layers=profile))
    start = next(i for i, line in enumerate(lines) if line[:2] == ["Layers", "of"])
    told = " ".join(word for line in lines[start:] for word in line)
    assert f"batch 8: head {profile.head_share:.1%} of the compute" in told
    rows = [(line[:-2], float(line[-2])) for line in lines[start:] if line and line[-1][-1] == "%"]
    assert sum(ms for _, ms in rows) == pytest.approx(profile.total)
    assert rows[0][0] == [f"backbone.layer{count - 1}"]
    assert rows[-1] == ([UNATTRIBUTED], 0.25)
    hidden = count + 1 - bench_gpu.SHOWN_PARTS
    assert len(rows) == min(count + 1, bench_gpu.SHOWN_PARTS) + 1 + (hidden > 0)
    assert any(words == f"{hidden} more parts".split() for words, _ in rows) == (hidden > 0)


def test_a_run_without_pause_tells_all_that_was_measured(printed: Print) -> None:
    told = "\n".join(" ".join(line) for line in printed(replace(PLAIN, sustained=SUSTAINED)))
    for line in (
        "Without pause: m0.engine, batch 8",
        "ran for 60.5 s, 4321 images/s",
        "at its ends 4400 images/s in the first tenth, 4200 in the last",
        "throttled yes",
        "energy 0.0491 J an image",
        "GPU clock 900 to 1410 MHz, median 1350",
        "temperature 41 to 77 C",
        "power 212.5 W on average",
        "power cap 25% of the time",
        "measured by NVML, 42 samples",
    ):
        assert line in told


def test_what_nothing_measured_is_left_out(printed: Print) -> None:
    blind = replace(TELEMETRY, gpu_mhz=None, celsius=None, watts=None, throttling={})
    for run in (
        replace(SUSTAINED, telemetry=None, joules_per_image=None, throttled=False),
        replace(SUSTAINED, telemetry=blind, joules_per_image=None, throttled=False),
    ):
        told = " ".join(word for line in printed(replace(PLAIN, sustained=run)) for word in line)
        assert "throttled no" in told
        assert ("measured by" in told) == (run.telemetry is not None)
        assert not {"energy", "clock", "temperature", "average"} & set(told.split())


def test_commands_for_trtexec_are_one_document_or_lines_to_copy(make_engine, tiny_export, tmp_path,
                                                                capsys) -> None:  # fmt: skip
    engine = make_engine(Path(tiny_export), tmp_path / "tiny.engine")
    settings = BenchmarkSettings((1, 8), device="cuda")
    bench_gpu.show_trtexec([engine], settings, [], json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["document"] == "trtexec"
    assert [(c["trtexec"], c["batch"]) for c in told["commands"]] == [
        (10, 1), (11, 1), (10, 8), (11, 8),
    ]  # fmt: skip
    bench_gpu.show_trtexec([engine], settings, [], json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1::2] == [c["command"] for c in told["commands"]]
    assert all(line.startswith("# trtexec") for line in lines[::2])
