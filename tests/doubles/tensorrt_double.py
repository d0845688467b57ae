"""A double of the `tensorrt` module and of plan files: a plan that names an ONNX file.

With it, everything from `open_session("model.engine")` on runs where neither TensorRT nor a GPU
is, on `HostDevice` and `EngineDouble`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_double import USER_MANAGED, EngineDouble
from host_device import HostDevice

from gsp_deploy.artifact import ExportManifest, TensorSpec, write_sidecar
from gsp_deploy.artifact.engine_manifest import (
    EngineManifest,
    PrecisionSummary,
    ShapeRange,
)
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.runtime.batching import InputProfile

Batches = tuple[int, int, int]
VERSION = "10.3.0"
MAGIC = b"plan double: "


class Registry:
    def load_library(self, path: str) -> object | None:
        return None if "broken" in path else object()


class Runtime:
    """`tensorrt.Runtime` on the device that `install` put in place."""

    device: HostDevice
    profiles: Mapping[Path, Sequence[InputProfile]]

    def __init__(self, logger: Any) -> None:
        self.logger, self.engine_host_code_allowed = logger, False

    def get_plugin_registry(self) -> Registry:
        return Registry()

    def deserialize_cuda_engine(self, plan: bytes) -> EngineDouble | None:
        if not plan.startswith(MAGIC):
            self.logger.log("ERROR", "IRuntime::deserializeCudaEngine: Error Code 1:\nmagic tag")
            return None
        onnx = Path(plan.removeprefix(MAGIC).decode())
        return EngineDouble(onnx, self.device, self.profiles[onnx])


class ILogger:
    Severity = SimpleNamespace(ERROR="ERROR", INTERNAL_ERROR="INTERNAL_ERROR", WARNING="WARNING")


def install(
    monkeypatch: pytest.MonkeyPatch,
    device: HostDevice | None = None,
    *,
    through_libraries: bool = False,
) -> HostDevice:
    """Put the doubles where engines are loaded, and return the device.

    Sessions get the device itself, or open it by a library that has a double of its own.
    """
    device = device or HostDevice()
    runtime = type("Runtime", (Runtime,), {"device": device, "profiles": {}})
    strategy = SimpleNamespace(USER_MANAGED=USER_MANAGED)
    module: Any = SimpleNamespace(
        Runtime=runtime, ILogger=ILogger, ExecutionContextAllocationStrategy=strategy
    )
    tensorrt = TensorRT("tensorrt", module, VERSION)
    for place in ("gsp_deploy.engine.machine", "gsp_deploy.runtime.engine_loading"):
        monkeypatch.setattr(f"{place}.load_tensorrt", lambda flavour=None: tensorrt)
        if not through_libraries:
            monkeypatch.setattr(f"{place}.open_device", lambda index=0, api="auto": device)
    device.profiles = runtime.profiles  # type: ignore[attr-defined]
    return device


def write_engine(
    device: HostDevice, onnx: Path, path: Path, batch: Batches = (1, 4, 8), **changes: Any
) -> Path:
    """Write a plan of an export, with its manifest beside it, and return its path."""
    export = read_onnx_manifest(onnx)
    assert export is not None
    ranges = {export.inputs[0].name: _range(export.inputs[0], batch)}
    plan = _write_plan(device, onnx, path, next(iter(ranges.values())))
    write_sidecar(_manifest(plan, export, onnx, ranges, changes), path)
    return path


def write_engine_of(device: HostDevice, onnx: Path, path: Path, size: int = 7) -> str:
    """Write a plan of the self-test's head, without a manifest, and return words on it."""
    shapes = ((batch, 24, size, size) for batch in (1, 2, 8))
    _write_plan(device, onnx, path, ShapeRange(*shapes))
    return "a plan double"


def _write_plan(device: HostDevice, onnx: Path, path: Path, shapes: ShapeRange) -> bytes:
    device.profiles[onnx] = [  # type: ignore[attr-defined]
        InputProfile(shapes.min, shapes.opt, shapes.max)
    ]
    plan = MAGIC + str(onnx).encode()
    path.write_bytes(plan)
    return plan


def _range(tensor: TensorSpec, batch: tuple[int, int, int]) -> ShapeRange:
    sizes = tuple(size if isinstance(size, int) else 4 for size in tensor.shape[1:])
    return ShapeRange(*((count, *sizes) for count in batch))


def _manifest(
    plan: bytes,
    export: ExportManifest,
    onnx: Path,
    ranges: Mapping[str, ShapeRange],
    changes: Mapping[str, Any],
) -> EngineManifest:
    from gsp_deploy.engine.api import this_platform

    fields: dict[str, Any] = {
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "plan_bytes": len(plan),
        "onnx_name": onnx.name,
        "onnx_sha256": "cd" * 32,
        "flavour": "tensorrt",
        "tensorrt_version": VERSION,
        "cuda_version": "12.6",
        "platform": this_platform(),
        "device": "host double",
        "compute_capabilities": ("8.6",),
        "hardware_compatibility": "none",
        "version_compatible": False,
        "profiles": (ranges,),
        "inputs": export.inputs,
        "outputs": export.outputs,
        "layers": 10,
        "precision": PrecisionSummary(export.precision, "network", {"float32": 10}),
        "plugin": None,
        "export": export,
    }
    return EngineManifest(**{**fields, **changes})
