"""Engines built for the GPU in this machine, loaded and run on it. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.engine.api import TensorRT, installed_flavours, load_tensorrt
from gsp_deploy.engine.build import build_engine
from gsp_deploy.engine.machine import Machine, misfits
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.errors import UsageError
from gsp_deploy.export import default_calibration
from gsp_deploy.runtime import open_session

pytestmark = pytest.mark.gpu
# Largest error of an embedding's component; the embeddings have length 1.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2}


@pytest.fixture(scope="module")
def tensorrt() -> TensorRT:
    if not installed_flavours():
        pytest.skip("neither TensorRT nor TensorRT-RTX is installed")
    return load_tensorrt()


def build(
    onnx: Path, folder: Path, tensorrt: TensorRT, **options: object
) -> Artifact[EngineManifest]:
    path = folder / f"model{len(list(folder.iterdir()))}.engine"
    return build_engine(onnx, path, BuildOptions(**options), tensorrt.flavour)


def needs_tensorrt(tensorrt: TensorRT) -> None:
    if tensorrt.is_rtx:
        pytest.skip("TensorRT-RTX has not got this")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", ["resnet18", "glyphs-lite0"])
def test_an_engine_computes_what_its_onnx_computes(
    name: str, precision: str, exported, tensorrt: TensorRT, tmp_path: Path
) -> None:
    onnx = exported(name, precision=precision)
    built = build(onnx, tmp_path, tensorrt)
    assert misfits(built.manifest, Machine.here(tensorrt.flavour)) == ()
    assert built.manifest.export is not None
    images = default_calibration(built.manifest.export.model, 8).inputs
    with open_session(onnx) as before, open_session(built.path, device="cuda") as after:
        expected = before.embed(images)
        for count in (8, 1, 3):
            error = np.abs(after.embed(images[:count]) - expected[:count]).max()
            assert error < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_engine_itself_is_verified(
    precision: str, exported, tensorrt: TensorRT, tmp_path: Path
) -> None:
    built = build(exported("resnet18", precision=precision), tmp_path, tensorrt)
    assert built.manifest.precision.verified_on == "engine"


def test_any_size_runs(exported, tensorrt: TensorRT, tmp_path: Path) -> None:
    onnx = exported("resnet18", dynamic_size=True)
    built = build(onnx, tmp_path, tensorrt)
    draw = np.random.default_rng(0)
    with open_session(onnx) as before, open_session(built.path, device="cuda") as after:
        for size in (32, 64, 96, 128):
            images = draw.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
            np.testing.assert_allclose(after.embed(images), before.embed(images), atol=1e-4)


def test_a_timing_cache_is_made_and_reused(exported, tensorrt: TensorRT, tmp_path: Path) -> None:
    needs_tensorrt(tensorrt)
    cache, onnx = tmp_path / "timings", exported("resnet18")
    assert build(onnx, tmp_path, tensorrt, timing_cache=cache).manifest.notes == ()
    first = cache.stat().st_size
    assert first > 0
    assert build(onnx, tmp_path, tensorrt, timing_cache=cache).manifest.notes == ()
    assert cache.stat().st_size >= first


def test_a_damaged_timing_cache_is_set_aside(exported, tensorrt: TensorRT, tmp_path: Path) -> None:
    needs_tensorrt(tensorrt)
    cache = tmp_path / "timings"
    cache.write_bytes(b"no cache" * 100)
    built = build(exported("resnet18"), tmp_path, tensorrt, timing_cache=cache)
    assert "set aside" in built.manifest.notes[0]
    assert (tmp_path / "timings.aside").is_file()


def test_a_stripped_plan_is_smaller(exported, tensorrt: TensorRT, tmp_path: Path) -> None:
    onnx = exported("resnet18")
    whole = build(onnx, tmp_path, tensorrt).manifest
    stripped = build(onnx, tmp_path, tensorrt, strip_weights=True).manifest
    assert stripped.plan_bytes < whole.plan_bytes / 2
    assert build(onnx, tmp_path, tensorrt, refit=True).manifest.options["refit"] is True


def test_a_version_compatible_plan_is_loaded_on_trust_alone(
    exported, tensorrt: TensorRT, tmp_path: Path
) -> None:
    needs_tensorrt(tensorrt)
    built = build(exported("resnet18"), tmp_path, tensorrt, version_compatible=True)
    with pytest.raises(UsageError, match="allow-host-code"):
        open_session(built.path, device="cuda")


def test_low_memory_builds_run_too(exported, tensorrt: TensorRT, tmp_path: Path) -> None:
    onnx = exported("glyphs-lite0")
    built = build(onnx, tmp_path, tensorrt, low_memory=True)
    assert built.manifest.export is not None
    images = default_calibration(built.manifest.export.model, 4).inputs
    with open_session(onnx) as before, open_session(built.path, device="cuda") as after:
        np.testing.assert_allclose(after.embed(images), before.embed(images), atol=1e-4)
