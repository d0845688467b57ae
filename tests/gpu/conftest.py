"""Engines of a small model, built on the GPU of this machine.

Without a GPU, all here is skipped; without TensorRT, what needs an engine.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gsp_deploy.engine.api import load_tensorrt
from gsp_deploy.errors import GspDeployError


@pytest.hookimpl(tryfirst=True)  # before the hook that skips what is marked so
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of the tiny checkpoint with all outputs: fp32.onnx, fp16.onnx."""
    from gsp_deploy import load_checkpoint
    from gsp_deploy.export import ExportOptions, export_onnx

    folder = tmp_path_factory.mktemp("gpu")
    for precision in ("fp32", "fp16"):
        options = ExportOptions(
            precision=precision, outputs=("attributes", "weights"), iterations=6
        )
        export_onnx(load_checkpoint(tiny_checkpoint), folder / f"{precision}.onnx", options)
    return folder


@pytest.fixture(scope="session")
def engines(exported: Path) -> Path:
    """The same folder with engines beside the exports: two profiles, batches 1 and 2 to 16."""
    try:
        load_tensorrt()
    except GspDeployError as error:
        pytest.skip(f"needs TensorRT: {error}")
    from gsp_deploy.engine.build import build_engine
    from gsp_deploy.engine.options import BuildOptions
    from gsp_deploy.engine.profiles import parse_batch

    options = BuildOptions((parse_batch("1"), parse_batch("2:8:16")))
    for precision in ("fp32", "fp16"):
        build_engine(exported / f"{precision}.onnx", exported / f"{precision}.engine", options)
    return exported
