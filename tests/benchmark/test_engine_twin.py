"""The twin of an engine differs only in its pooling; shapes, targets and precision are equal."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from gsp_deploy import GSPConfig, load_checkpoint
from gsp_deploy.artifact.engine_manifest import EngineManifest, read_engine_sidecar
from gsp_deploy.benchmark.engine_twin import write_engine_twin
from gsp_deploy.config import BaselineConfig
from gsp_deploy.engine.api import installed_flavours
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.profiles import parse_batch, parse_size
from gsp_deploy.errors import ModelFileError
from gsp_deploy.export import ExportOptions, export_onnx


@pytest.fixture(scope="module")
def open_export(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tiny checkpoint in fp16 with open height and width."""
    path = tmp_path_factory.mktemp("open") / "open.onnx"
    options = ExportOptions(precision="fp16", dynamic_size=True, iterations=3)
    export_onnx(load_checkpoint(tiny_checkpoint), path, options)
    return path


def build(source: Path, folder: Path, options: BuildOptions) -> tuple[Path, EngineManifest]:
    if "tensorrt-rtx" not in installed_flavours():
        pytest.skip("TensorRT-RTX is not installed: its wheels are for x86-64 Linux")
    shutil.copy(source, folder)
    built = build_engine(folder / source.name, folder / "model.engine", options, "tensorrt-rtx")
    return built.path, built.manifest


def facts(manifest: EngineManifest) -> tuple[object, ...]:
    """Return what must be equal in an engine and its twin."""
    return (
        manifest.profiles,
        manifest.inputs,
        manifest.flavour,
        manifest.compute_capabilities,
        manifest.hardware_compatibility,
        manifest.precision.asked,
        manifest.options,
    )


OPTIONS = {
    "its defaults": BuildOptions(targets=("8.6",)),
    "one batch": BuildOptions((parse_batch("4"),), targets=("8.6",)),
    "two profiles": BuildOptions(
        (parse_batch("1"), parse_batch("2:4:8")),
        (parse_size("32"), parse_size("32x64:64x64:64x128")),
        targets=("8.6", "8.9"),
    ),
    "an effort": BuildOptions(
        (parse_batch("1:2:4"),), targets=("8.6",), workspace=64 << 20, optimization_level=1
    ),
    "coarse products": BuildOptions((parse_batch("2"),), targets=("8.6",), tf32=True),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_only_the_pooling_differs(name: str, open_export: Path, tmp_path: Path) -> None:
    engine, manifest = build(open_export, tmp_path, OPTIONS[name])
    twin = tmp_path / "twin" / "0.engine"
    twin.parent.mkdir()
    write_engine_twin(engine, manifest, twin)
    found = read_engine_sidecar(twin)
    assert facts(found) == facts(manifest)
    assert [spec.name for spec in found.outputs] == ["embedding"]
    assert isinstance(manifest.export.model.head, GSPConfig)
    assert isinstance(found.export.model.head, BaselineConfig)
    nodes = [node.name for node in onnx.load(twin.with_suffix(".onnx")).graph.node]
    assert not any("newton" in node for node in nodes)
    assert found.layers < manifest.layers


def test_without_its_onnx_file_an_engine_has_no_twin(open_export: Path, tmp_path: Path) -> None:
    engine, manifest = build(open_export, tmp_path, OPTIONS["one batch"])
    with pytest.raises(ModelFileError, match="no manifest that names its ONNX file"):
        write_engine_twin(engine, None, tmp_path / "twin.engine")
    (tmp_path / open_export.name).write_bytes(b"another")
    with pytest.raises(ModelFileError, match="is not beside it or has changed"):
        write_engine_twin(engine, manifest, tmp_path / "twin.engine")
    assert not (tmp_path / "twin.engine").exists()
