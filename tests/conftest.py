"""Fixtures that several test modules share."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


# One worker runs a file. These two take the longest, so they must not begin last.
LONGEST = ("test_kill_points.py", "test_long_kill_points.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and skip what needs a GPU where CUDA finds none."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    from gsp_deploy.device import open_device
    from gsp_deploy.errors import GspDeployError

    try:
        open_device().close()
    except GspDeployError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"needs a CUDA device: {error}"))


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors: a second thread costs more than it gives, and on a busy machine everything.

    Without torch, the tests of a device still run.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("torch").set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _logging_of_milvus() -> None:
    """Import pymilvus while pytest's own streams are in place.

    Its import configures logging, which closes the handlers of others. The one of absl closes its
    stream, unless that is `sys.stderr` at this moment.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("pymilvus")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of vectors recorded from the authors' layers."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small untrained model: 32 px, 8-D, 4 prototypes."""
    import torch

    from gsp_deploy import EmbeddingModel, GSPConfig, ModelConfig, PreprocessingSpec
    from gsp_deploy.checkpoint import save_checkpoint
    from gsp_deploy.model import feature_channels

    torch.manual_seed(0)
    spec = PreprocessingSpec(32, 32)
    channels = feature_channels("test_resnet", {}, spec)
    head = GSPConfig(channels, embedding_dim=8, num_prototypes=4, solver="newton")
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(EmbeddingModel(ModelConfig("test_resnet", head, spec)), path)
    return path


@pytest.fixture(scope="session")
def tiny_export(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny checkpoint as ONNX, three Newton steps, embedding alone."""
    from gsp_deploy import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_onnx(
        load_checkpoint(tiny_checkpoint), path, ExportOptions(solver="newton", iterations=3)
    )
    return str(path)


@pytest.fixture(scope="session")
def make_engine() -> Callable[..., Path]:
    """Return a function that writes a plan, which nothing can load, and a manifest that fits it."""
    from gsp_deploy.artifact import read_sidecar, write_sidecar
    from gsp_deploy.artifact.engine_manifest import (
        EngineManifest,
        PrecisionSummary,
        ShapeRange,
    )
    from gsp_deploy.base.files import sha256_of

    def make(onnx: Path, engine: Path, **changes: object) -> Path:
        plan = b"a plan of no TensorRT\n" * 9
        engine.write_bytes(plan)
        export = read_sidecar(onnx)
        shape = (1, *export.inputs[0].shape[1:])
        fields = {
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "plan_bytes": len(plan),
            "onnx_name": onnx.name,
            "onnx_sha256": sha256_of(onnx),
            "flavour": "tensorrt",
            "tensorrt_version": "10.3.0.26",
            "cuda_version": "12.6",
            "platform": "linux aarch64",
            "device": None,
            "compute_capabilities": ("8.7",),
            "hardware_compatibility": "none",
            "version_compatible": False,
            "profiles": ({export.inputs[0].name: ShapeRange(shape, shape, (8, *shape[1:]))},),
            "inputs": export.inputs,
            "outputs": export.outputs,
            "layers": 10,
            "precision": PrecisionSummary(export.precision, "network", {"float32": 10}),
            "plugin": None,
            "export": export,
        }
        write_sidecar(EngineManifest(**{**fields, **changes}), engine)
        return engine

    return make
