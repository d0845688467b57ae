"""The whole benchmark: fake models check its arithmetic, a tiny real model the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig
from gsp_deploy.benchmark import BenchmarkReport, BenchmarkSettings, run_benchmark
from gsp_deploy.benchmark.copies import time_copies
from gsp_deploy.benchmark.entrants import entrant_names
from gsp_deploy.benchmark.memory import measure_memory
from gsp_deploy.benchmark.timing import Rounds
from gsp_deploy.checkpoint import load_checkpoint
from gsp_deploy.errors import UsageError
from gsp_deploy.export import ExportOptions, export_onnx

BRIEF = BenchmarkSettings(batches=(2, 1), warmup=1, repeats=3, threads=1, memory=False)


@pytest.fixture(scope="module")
def tiny_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    export_onnx(load_checkpoint(tiny_checkpoint), path)
    return path


def test_latency_and_throughput_come_from_the_clock(fake_run) -> None:
    report = fake_run(
        BenchmarkSettings(batches=(1, 4), warmup=0, repeats=11, memory=False),
        a=range(10, 21),
        b=[100],
    )
    first, second = report.models
    assert [result.batch for result in first.batches] == [1, 4]
    assert first.batches[0].latency.p50 == pytest.approx(15)
    assert first.batches[0].latency.p90 == pytest.approx(19)
    assert first.batches[0].latency.max == pytest.approx(20)
    assert first.batches[1].latency.p50 == pytest.approx(60)
    assert first.batches[1].images_per_second == pytest.approx(4 / 0.060)
    assert second.batches[0].latency.min == pytest.approx(100)
    assert second.batches[0].latency.max == pytest.approx(100)


def test_models_take_turns_within_one_run(fake_run, clock) -> None:
    fake_run(BenchmarkSettings(warmup=0, repeats=2, memory=False), a=[1], b=[1])
    assert clock.log == ["a.onnx", "b.onnx", "b.onnx", "a.onnx", "closed b.onnx", "closed a.onnx"]


def test_a_foreign_graph_is_measured_without_a_twin(fake_run) -> None:
    (model,) = fake_run(a=[1]).models
    assert model.no_twin == "not an export of gsp-deploy"
    assert (model.backbone, model.head, model.solver) == (None, None, None)
    assert model.batches[0].pooling_cost is None


def test_both_kinds_of_model_with_their_twins(tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    seen: list[str] = []
    report = run_benchmark([tiny_onnx, tiny_checkpoint], BRIEF, observe=seen.append)
    assert report.settings == BRIEF
    assert seen[:2] == ["opening tiny.onnx", "opening tiny.safetensors"]
    for model in report.models:
        assert model.no_twin is None
        assert model.backbone == "test_resnet"
        assert model.head["kind"] == "gsp"
        assert model.preprocessing.source == "synthetic JPEG 640x480, 75 kB"
        assert model.preprocessing.normalise.rounds == BRIEF.repeats
        assert [result.batch for result in model.batches] == [2, 1]
        for result in model.batches:
            assert result.latency.rounds == result.pooling_cost.twin.rounds == BRIEF.repeats
            cost = result.pooling_cost
            assert 0 < cost.ratio_low <= cost.ratio <= cost.ratio_high
            assert result.images_per_second == pytest.approx(
                1000 * result.batch / result.latency.p50
            )
            assert result.copies is None
            assert result.peak_memory_mb is None
    assert report.models[0].solver.startswith("certified, ")
    assert report.models[0].runtime.startswith("onnxruntime ")
    assert report.models[1].runtime.startswith("torch ")


def test_a_graph_that_takes_pixels_normalises_inside(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path, photograph = tmp_path / "pixels.onnx", tmp_path / "photograph.png"
    export_onnx(load_checkpoint(tiny_checkpoint), path, ExportOptions(include_preprocessing=True))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(photograph)
    settings = BenchmarkSettings(repeats=1, warmup=0, memory=False)
    (model,) = run_benchmark([path], settings, image=photograph).models
    assert model.preprocessing.normalise is None
    assert model.preprocessing.source == "photograph.png PNG 60x40, 0 kB"
    assert model.batches[0].pooling_cost is not None


def test_memory_is_that_of_a_process_of_its_own(tiny_onnx: Path) -> None:
    settings = BenchmarkSettings(batches=(64, 1), repeats=1, warmup=0, threads=1)
    (model,) = run_benchmark([tiny_onnx], settings).models
    larger, smaller = model.batches
    assert model.idle_memory_mb < smaller.peak_memory_mb <= larger.peak_memory_mb
    assert model.idle_memory_mb < larger.twin_memory_mb
    with Path("/proc/self/status").open() as status:  # only this process has imported PyTorch
        own = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    assert larger.peak_memory_mb < own


def test_memory_of_a_model_that_is_a_link_into_a_cache(tiny_onnx: Path, tmp_path: Path) -> None:
    """The blob that it leads to has no suffix."""
    blob, link = tmp_path / "blob", tmp_path / "m.onnx"
    blob.write_bytes(tiny_onnx.read_bytes())
    link.symlink_to(blob)
    assert measure_memory(link, BRIEF).peaks_mb[1] > 0


def test_memory_of_a_checkpoint(tiny_checkpoint: Path) -> None:
    use = measure_memory(tiny_checkpoint, BRIEF)
    assert 0 < use.idle_mb < use.peaks_mb[1] <= use.peaks_mb[2]


def test_twin_and_memory_can_be_left_out(tiny_onnx: Path) -> None:
    settings = BenchmarkSettings(repeats=1, warmup=0, twin=False, memory=False)
    (model,) = run_benchmark([tiny_onnx], settings).models
    assert model.no_twin == "not asked for"
    assert model.batches[0].pooling_cost is None
    assert model.idle_memory_mb is None


def test_a_fixed_batch_is_not_measured_at_another(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    head = GSPConfig(4, embedding_dim=3, num_prototypes=2, solver="newton")
    model = EmbeddingModel(ModelConfig("features", head, None))
    export_onnx(model, path, ExportOptions(dynamic_batch=False, iterations=2))
    with pytest.raises(UsageError, match="takes batches of 1 only; pass --batch 1"):
        run_benchmark([path], BenchmarkSettings(batches=(2,), memory=False))
    settings = BenchmarkSettings(repeats=1, size=(3, 5), memory=False)
    assert run_benchmark([path], settings).models[0].no_twin is None


def test_a_broken_measuring_process_leaves_a_note(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsp_deploy.benchmark.memory.PROBE", "gsp_deploy.no_such_module")
    settings = BenchmarkSettings(repeats=1, warmup=0, twin=False)
    report = run_benchmark([tiny_onnx], settings)
    assert report.models[0].batches[0].peak_memory_mb is None
    assert any("no memory figure for tiny.onnx" in note for note in report.notes)


def test_models_with_the_same_name_get_their_paths() -> None:
    assert entrant_names([Path("a/m.onnx"), Path("n.onnx")]) == ["m.onnx", "n.onnx"]
    assert entrant_names([Path("a/m.onnx"), Path("b/m.onnx")]) == ["a/m.onnx", "b/m.onnx"]
    with pytest.raises(UsageError, match="same file twice"):
        entrant_names([Path("a/m.onnx"), Path("a/../a/m.onnx")])
    with pytest.raises(UsageError, match="at least one model"):
        entrant_names([])


def test_copies_are_timed_apart() -> None:
    moved: list[str] = []

    def upload(array: np.ndarray) -> np.ndarray:
        moved.append(f"up {array.shape}")
        return array

    def download(array: np.ndarray) -> np.ndarray:
        moved.append(f"down {array.shape}")
        return array

    found = time_copies(upload, download, np.zeros((2, 3)), np.zeros((2, 5)), Rounds(0, 2))
    assert found.to_device.rounds == found.from_device.rounds == 2
    assert moved == ["up (2, 5)", "up (2, 3)", "down (2, 5)", "down (2, 5)", "up (2, 3)"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batches": ()},
        {"batches": (0,)},
        {"batches": (1, 1)},
        {"warmup": -1},
        {"repeats": 0},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"size": (7,)},
        {"size": (0, 7)},
    ],
)
def test_settings_outside_their_domain_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        BenchmarkSettings(**wrong)


def test_what_the_provider_computes_in_and_whose_threads(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gsp_deploy.runtime import onnx_graph, onnx_session

    monkeypatch.setattr(onnx_graph, "arithmetic", lambda provider, options: "TF32 on")
    monkeypatch.setattr(onnx_session, "threads_reach", lambda provider: False)
    report = run_benchmark([tiny_onnx], replace(BRIEF, batches=(1,), twin=False))
    assert report.models[0].arithmetic == "TF32 on"
    words = "tiny.onnx: the number of threads does not reach CPU, which chooses its own"
    assert words in report.notes
    assert BenchmarkReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
