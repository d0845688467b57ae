"""Documents as the commands print them, made by the library on a small head."""

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
    """Return a function: a folder with as many artifacts, checks and measured models as told."""

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
