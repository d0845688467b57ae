"""New weights for a plan, on a double of TensorRT's refitter: its calls, and the errors."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builder_double import tensorrt_double

from gsp_deploy.artifact import TensorSpec, write_sidecar
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    PrecisionSummary,
    ShapeRange,
    read_engine_sidecar,
)
from gsp_deploy.base.files import sha256_of
from gsp_deploy.engine import refit
from gsp_deploy.engine.machine import Machine
from gsp_deploy.engine.refit import refit_engine
from gsp_deploy.errors import GspDeployError, MissingCapabilityError, ModelFileError, UsageError

PLAN = b"a plan without weights"
IMAGES = TensorSpec("images", "float32", (1, 3, 32, 32))
HERE = Machine("tensorrt", "10.3.0", "Orin", "8.7", "12.6", "linux aarch64")
MANIFEST = EngineManifest(
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plan_bytes=len(PLAN),
    onnx_name="old.onnx",
    onnx_sha256="ab" * 32,
    flavour="tensorrt",
    tensorrt_version="10.3.0",
    cuda_version="12.6",
    platform="linux aarch64",
    device="Orin",
    compute_capabilities=("8.7",),
    hardware_compatibility="none",
    version_compatible=False,
    profiles=({"images": ShapeRange(*[(1, 3, 32, 32)] * 3)},),
    inputs=(IMAGES,),
    outputs=(TensorSpec("embedding", "float32", (1, 8)),),
    layers=3,
    precision=PrecisionSummary("fp32", "network", {"float32": 3}),
    plugin=None,
    export=None,
    options={"strip_weights": True, "refit": False},
)


class Engine:
    weights = b""

    def create_serialization_config(self) -> Any:
        config = SimpleNamespace(flags={"EXCLUDE_WEIGHTS"})
        config.clear_flag = config.flags.discard
        return config

    def serialize_with_config(self, config: Any) -> bytes:
        return PLAN if config.flags else PLAN + self.weights


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A TensorRT whose refitter takes the ONNX file's bytes for the weights."""
    tensorrt = tensorrt_double()

    class Refitter:
        missing: tuple[str, ...] = ()

        def __init__(self, engine: Engine, log: Any) -> None:
            self.engine, self.found = engine, b""

        def get_missing_weights(self) -> tuple[str, ...]:
            return self.missing

        def refit_cuda_engine(self) -> bool:
            self.engine.weights = self.found
            return True

    class OnnxParserRefitter:
        def __init__(self, refitter: Refitter, log: Any) -> None:
            self.refitter = refitter

        def refit_from_file(self, path: str) -> bool:
            self.refitter.found = Path(path).read_bytes()
            return True

    found = tensorrt.module
    found.Refitter, found.OnnxParserRefitter = Refitter, OnnxParserRefitter
    found.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine())
    found.SerializationFlag = SimpleNamespace(EXCLUDE_WEIGHTS="EXCLUDE_WEIGHTS")
    monkeypatch.setattr(refit, "load_tensorrt", lambda flavour: tensorrt)
    monkeypatch.setattr(refit, "read_onnx_manifest", lambda source: None)
    monkeypatch.setattr(refit.Machine, "here", lambda flavour: HERE)
    return found


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A stripped plan with its manifest, an ONNX file, and where the new plan goes."""
    engine, onnx = tmp_path / "stripped.engine", tmp_path / "new.onnx"
    engine.write_bytes(PLAN)
    write_sidecar(MANIFEST, engine)
    onnx.write_bytes(b" with these")
    return engine, onnx, tmp_path / "full.engine"


def test_the_new_plan_has_the_weights_and_a_manifest_that_says_so(module, files) -> None:
    engine, onnx, path = files
    built = refit_engine(engine, onnx, path)
    assert path.read_bytes() == PLAN + b" with these"
    assert read_engine_sidecar(path) == built.manifest
    assert built.manifest.plan_sha256 == sha256_of(path)
    assert (built.manifest.onnx_name, built.manifest.onnx_sha256) == ("new.onnx", sha256_of(onnx))
    assert built.manifest.options["strip_weights"] is False
    assert engine.read_bytes() == PLAN


def test_a_refused_refit_leaves_no_file(module, files) -> None:
    module.Refitter.missing = ("conv.weight", "conv.bias")
    with pytest.raises(GspDeployError, match=r"lacks 2 of its weights, conv\.weight"):
        refit_engine(*files)
    module.OnnxParserRefitter.refit_from_file = lambda self, path: False
    with pytest.raises(GspDeployError, match=r"new\.onnx does not contain the weights"):
        refit_engine(*files)
    module.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: None)
    with pytest.raises(GspDeployError, match="cannot load it"):
        refit_engine(*files)
    assert not files[2].exists()


def test_a_plan_that_takes_no_weights_is_refused(module, files) -> None:
    engine, onnx, path = files
    write_sidecar(dataclasses.replace(MANIFEST, options={}), engine)
    with pytest.raises(UsageError, match="--refit"):
        refit_engine(engine, onnx, path)
    engine.write_bytes(b"another")
    with pytest.raises(ModelFileError, match="copy engine and manifest again"):
        refit_engine(engine, onnx, path)
    engine.with_name("stripped.engine.json").unlink()
    with pytest.raises(ModelFileError, match="no manifest beside it"):
        refit_engine(engine, onnx, path)
    with pytest.raises(ModelFileError, match="no such engine"):
        refit_engine(engine.with_name("gone.engine"), onnx, path)


def test_a_plan_of_another_machine_is_refused(module, files, monkeypatch) -> None:
    elsewhere = dataclasses.replace(HERE, compute_capability="8.6")
    monkeypatch.setattr(refit.Machine, "here", lambda flavour: elsewhere)
    with pytest.raises(MissingCapabilityError, match=r"compute capability 8\.7"):
        refit_engine(*files)
