"""An engine's manifest is read back as written; each reason not to fit a machine is one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gsp_deploy.artifact import ExportManifest, SolverCertificate, TensorSpec, write_sidecar
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    PluginRecord,
    PrecisionSummary,
    ShapeRange,
    check_plan,
    read_engine_sidecar,
)
from gsp_deploy.config import GSPConfig, ModelConfig, PreprocessingSpec
from gsp_deploy.engine.machine import Machine, check_fits, misfits
from gsp_deploy.errors import ConfigError, MissingCapabilityError, ModelFileError

PLAN = b"a plan"
EXPORT = ExportManifest(
    model=ModelConfig("resnet18", GSPConfig(512, 8, 4), PreprocessingSpec(32, 48)),
    precision="fp16",
    opset=18,
    inputs=(TensorSpec("images", "float32", ("batch", 3, 32, 48)),),
    outputs=(TensorSpec("embedding", "float32", ("batch", 8)),),
    includes_preprocessing=False,
    certificate=SolverCertificate("newton", 3, 1e-4, 32, "32 crops", 1e-7, 2e-6, 3e-5),
    sha256="cd" * 32,
)
FULL = EngineManifest(
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plan_bytes=len(PLAN),
    onnx_name="model.onnx",
    onnx_sha256="cd" * 32,
    flavour="tensorrt",
    tensorrt_version="10.3.0",
    cuda_version="12.6",
    platform="linux x86_64",
    device="NVIDIA A10",
    compute_capabilities=("8.6",),
    hardware_compatibility="none",
    version_compatible=False,
    profiles=(
        {"images": ShapeRange((1, 3, 32, 48), (8, 3, 32, 48), (64, 3, 32, 48))},
        {"images": ShapeRange((1, 3, 32, 48), (1, 3, 32, 48), (1, 3, 32, 48))},
    ),
    inputs=EXPORT.inputs,
    outputs=EXPORT.outputs,
    layers=122,
    precision=PrecisionSummary("fp16", "network", {"float16": 100, "float32": 22}, ("gsp/cost",)),
    plugin=PluginRecord(
        "GeneralizedSumPooling", "gsp.deploy", "1", "libgsp_pooling.so", "ef" * 32, 1
    ),
    export=EXPORT,
    options={"workspace": 1 << 30, "optimization_level": 3},
    build_seconds=1.5,
    peak_memory_bytes=1 << 29,
    notes=("the timing cache was set aside",),
)
A10 = Machine("tensorrt", "10.3.0", "NVIDIA A10", "8.6", "12.6", "linux x86_64")
RTX = dataclasses.replace(
    FULL,
    flavour="tensorrt-rtx",
    tensorrt_version="1.7.1.116",
    device=None,
    compute_capabilities=("8.6", "12.0"),
    plugin=None,
)


@pytest.mark.parametrize("manifest", [FULL, RTX, dataclasses.replace(FULL, export=None)])
def test_round_trip(manifest: EngineManifest, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    assert read_engine_sidecar(engine) is None
    assert write_sidecar(manifest, engine) == tmp_path / "model.engine.json"
    assert read_engine_sidecar(engine) == manifest


def test_the_manifest_gives_access_to_the_export() -> None:
    assert FULL.preprocessing == EXPORT.preprocessing
    assert FULL.certificate == EXPORT.certificate
    assert dataclasses.replace(FULL, export=None).preprocessing is None


def test_a_plan_that_is_another_file_is_refused(tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    with pytest.raises(ModelFileError, match="no such engine"):
        check_plan(FULL, engine)
    engine.write_bytes(PLAN)
    check_plan(FULL, engine)
    engine.write_bytes(b"b plan")
    with pytest.raises(ModelFileError, match="hash"):
        check_plan(FULL, engine)
    engine.write_bytes(PLAN[:3])
    with pytest.raises(ModelFileError, match="3 bytes"):
        check_plan(FULL, engine)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(engine_format=2), "format 1"),
        (lambda d: d.pop("engine_format"), "format 1"),
        (lambda d: d.pop("profiles"), "profiles"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d.update(flavour="onnx"), "flavour"),
        (lambda d: d.update(profiles=[]), "at least one profile"),
        (lambda d: d["profiles"][0]["images"].update(min=[9, 3, 32, 48]), "min <= opt"),
        (lambda d: d["profiles"][0]["images"].update(max=[9, 3]), "one rank"),
        (lambda d: d["profiles"][0]["images"].update(max=["a", 3, 32, 48]), "damaged"),
        (lambda d: d.update(compute_capabilities=["sm_86"]), "8.6"),
        (lambda d: d.update(plan_sha256="x"), "SHA-256"),
        (lambda d: d.update(plan_bytes="6"), "plan_bytes"),
        (lambda d: d.update(hardware_compatibility="all"), "hardware_compatibility"),
        (lambda d: d["precision"].update(verified_on="hope"), "verified_on"),
        (lambda d: d["plugin"].pop("abi"), "abi"),
        (lambda d: d["export"].update(opset="18"), "opset"),
        (lambda d: d["export"].update(format=7), "format"),
    ],
)
def test_wrong_fields_are_named(
    change: Callable[[dict[str, Any]], object], named: str, tmp_path: Path
) -> None:
    data = json.loads(FULL.to_json())
    change(data)
    with pytest.raises(ModelFileError) as caught:
        EngineManifest.from_json(json.dumps(data), "model.engine.json")
    message = str(caught.value)
    assert message.startswith("model.engine.json: ")
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, FULL.to_json()[:500]])
def test_text_that_is_no_manifest(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"^x\.json: "):
        EngineManifest.from_json(text, "x.json")


def test_a_damaged_sidecar_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.engine.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFileError, match=r"model\.engine\.json"):
        read_engine_sidecar(tmp_path / "model.engine")


def test_a_range_of_shapes() -> None:
    shapes = FULL.profiles[0]["images"]
    assert shapes.holds((1, 3, 32, 48))
    assert shapes.holds((64, 3, 32, 48))
    assert not shapes.holds((65, 3, 32, 48))
    assert not shapes.holds((1, 3, 32))
    with pytest.raises(ConfigError, match="0 < min"):
        ShapeRange((0, 3), (1, 3), (1, 3))


def test_a_plan_fits_the_machine_it_was_built_on() -> None:
    assert misfits(FULL, A10) == ()
    check_fits(FULL, A10)


@pytest.mark.parametrize(
    ("plan", "machine", "words"),
    [
        ({}, {"platform": "linux aarch64"}, "built on linux x86_64"),
        ({}, {"flavour": None, "tensorrt_version": None}, "TensorRT 10.3.0, which is not install"),
        ({}, {"flavour": "tensorrt-rtx", "tensorrt_version": "1.7"}, "only TensorRT-RTX"),
        ({}, {"tensorrt_version": "10.3.1"}, "runs on that version alone; this is TensorRT 10.3.1"),
        ({"version_compatible": True}, {"tensorrt_version": "10.2.9"}, "later versions"),
        ({"version_compatible": True}, {"tensorrt_version": "12.0.0"}, "compatible or not"),
        ({}, {"device": None, "compute_capability": None}, "CUDA finds none"),
        ({}, {"compute_capability": "8.9"}, "compute capability 8.6; this NVIDIA A10 has 8.9"),
        ({"hardware_compatibility": "ampere+"}, {"compute_capability": "7.5"}, "8.0 and later"),
        (
            {"hardware_compatibility": "ampere+"},
            {"compute_capability": "8.7", "integrated": True},
            "Jetson",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(
    plan: dict[str, Any], machine: dict[str, Any], words: str
) -> None:
    manifest, here = dataclasses.replace(FULL, **plan), dataclasses.replace(A10, **machine)
    with pytest.raises(MissingCapabilityError) as caught:
        check_fits(manifest, here, "model.engine")
    assert str(caught.value).startswith("model.engine: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "machine"),
    [
        ({"version_compatible": True}, {"tensorrt_version": "10.16.1"}),
        ({"version_compatible": True}, {"tensorrt_version": "11.4.0"}),
        ({"hardware_compatibility": "ampere+"}, {"compute_capability": "12.0"}),
        ({"hardware_compatibility": "same-capability"}, {"device": "NVIDIA RTX A2000"}),
    ],
)
def test_compatible_plans_fit_where_they_should(
    plan: dict[str, Any], machine: dict[str, Any]
) -> None:
    assert misfits(dataclasses.replace(FULL, **plan), dataclasses.replace(A10, **machine)) == ()


def test_a_plan_for_several_gpus_fits_each() -> None:
    here = dataclasses.replace(A10, flavour="tensorrt-rtx", tensorrt_version="1.7.1.116")
    assert misfits(RTX, here) == ()
    assert misfits(RTX, dataclasses.replace(here, compute_capability="12.0")) == ()
    assert len(misfits(RTX, dataclasses.replace(here, compute_capability="8.0"))) == 1
    assert "build it again" in misfits(RTX, dataclasses.replace(here, tensorrt_version="1.8"))[0]
