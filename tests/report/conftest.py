"""Documents as the commands print them, from the library on a small head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, open_session
from gsp_deploy.benchmark import BenchmarkSettings, run_benchmark
from gsp_deploy.checkpoint import save_checkpoint
from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.export import ExportOptions, export_onnx
from gsp_deploy.parity import compare_sessions

SPEC = PreprocessingSpec(32, 32)


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint, an export, a check and a benchmark of it."""
    folder = tmp_path_factory.mktemp("deployed")
    torch.manual_seed(0)
    head = GSPConfig(32, 16, 5, 0.3, 20.0, solver="newton")
    model = EmbeddingModel(ModelConfig("small_cnn_s8", head, SPEC, {"width": 8})).eval()
    save_checkpoint(model, folder / "model.safetensors")
    export_onnx(model, folder / "model.onnx", ExportOptions(outputs=("weights",)))
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    with (
        open_session(folder / "model.safetensors") as first,
        open_session(folder / "model.onnx") as second,
    ):
        report = compare_sessions(first, second, images, labels=[k // 4 for k in range(12)])
    document = {"document": "check", "version": 1, **report.to_dict()}
    (folder / "check.json").write_text(json.dumps(document))
    settings = BenchmarkSettings(batches=(1, 2), warmup=1, repeats=3, threads=1, memory=False)
    run_benchmark([folder / "model.onnx"], settings).save(folder / "bench.json")
    (folder / "thesis.json").write_text('{"precious": true}')
    return folder


@pytest.fixture
def many(deployed: Path, tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that makes a folder with `count` artifacts, checks and measured models."""

    def copies(count: int) -> Path:
        check = json.loads((deployed / "check.json").read_text())
        bench: dict[str, Any] = json.loads((deployed / "bench.json").read_text())
        measured = bench["models"][0]
        bench["models"] = [{**measured, "name": f"model-{k:02}.onnx"} for k in range(count)]
        (tmp_path / "bench.json").write_text(json.dumps(bench))
        for k in range(count):
            check["candidate"]["path"] = f"/models/model-{k:02}.onnx"
            (tmp_path / f"check-{k:02}.json").write_text(json.dumps(check))
            manifest = (deployed / "model.onnx.json").read_text()
            (tmp_path / f"model-{k:02}.onnx.json").write_text(manifest)
        return tmp_path

    return copies


@pytest.fixture
def engine_folder(deployed: Path, make_engine: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a folder with an engine's manifest and a benchmark of it.

    No GPU was there: its figures are made up, and round, so that no one takes them for measured.
    """
    make_engine(deployed / "model.onnx", tmp_path / "model.engine")
    bench = json.loads((deployed / "bench.json").read_text())
    bench["models"][0]["name"] = "model.engine"
    bench["models"][0]["batches"][0]["gpu"] = made_up_gpu_result()
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    return tmp_path


def made_up_gpu_result() -> dict[str, Any]:
    """Return the result of `bench` for an engine at one batch size, with invented figures."""
    layers = [
        {"layer": "gsp/newton_1/beta", "part": "head: newton step 1", "milliseconds": 0.25},
        *({"layer": f"c{k}", "part": f"layer{k}", "milliseconds": 0.03} for k in range(25)),
    ]
    sustained = {
        "seconds": 60.0, "images_per_second": 1000.0, "first": 1100.0, "last": 900.0,
        "latency": made_up_latency(2.0), "joules_per_image": 0.5, "throttled": True,
        "telemetry": {
            "source": "made up", "samples": 300, "gpu_mhz": [600.0, 800.0, 900.0],
            "celsius": [40.0, 80.0], "watts": 50.0, "joules": 3000.0,
            "throttling": {"thermal slowdown": 0.25},
        },
    }  # fmt: skip
    return {
        "with_graphs": made_up_stages(enqueue=0.01),
        "without_graphs": made_up_stages(enqueue=0.5),
        "no_graphs": None,
        "cost": {"ratio": 1.25, "ratio_low": 1.2, "ratio_high": 1.3, "extra_ms": 0.2},
        "layers": {"layers": layers, "runs": 3},
        "sustained": sustained,
    }


def made_up_stages(enqueue: float) -> dict[str, Any]:
    """Return stages with round numbers as times."""
    return {
        "to_device": made_up_latency(0.1),
        "compute": made_up_latency(1.0),
        "from_device": made_up_latency(0.05),
        "enqueue": made_up_latency(enqueue),
        "end_to_end": made_up_latency(1.2),
    }


def made_up_latency(p50: float) -> dict[str, float]:
    """Return percentiles close to a median."""
    spread = {"min": 0.9, "p50": 1.0, "p90": 1.1, "p95": 1.2, "p99": 1.5, "max": 2.0}
    return {"rounds": 50, **{name: factor * p50 for name, factor in spread.items()}}
