"""Collect what this machine has: versions, GPU, clocks, power, memory, providers, plugin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsp_deploy.artifact.engine_manifest import FLAVOURS
from gsp_deploy.base.environment import Environment, can_import, package_versions
from gsp_deploy.base.platforms import install_line
from gsp_deploy.base.words import counted
from gsp_deploy.device import Device, choose_api, open_device
from gsp_deploy.doctor.needs import (
    Need,
    Readiness,
    needs_beside_packages,
    readiness,
)
from gsp_deploy.engine.api import WORDS, installed_runtimes, load_tensorrt
from gsp_deploy.engine.plugins import describe_plugin
from gsp_deploy.engine.preflight import read_preflight
from gsp_deploy.errors import GspDeployError, reason_of

PACKAGES = (
    "gsp-deploy", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "onnxscript",
    "torch", "torchvision", "timm", "pytorch-metric-learning", "tensorrt", "tensorrt-cu12",
    "tensorrt-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-lean-cu12-libs",
    "tensorrt-lean-cu13-libs", "tensorrt-dispatch-cu12-libs", "tensorrt-dispatch-cu13-libs",
    "cuda-python", "cuda-bindings", "pycuda", "nvidia-ml-py",
)  # fmt: skip
_MIB = 1 << 20


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found on this machine.

    Attributes:
        machine: processor, system, Python, memory, and on a Jetson board, power mode and clocks.
        packages: versions of the installed packages.
        tensorrt: version of each flavour and installed runtime, or why it cannot be used.
        gpu: properties and current state of the GPU; empty if there is none.
        no_gpu: why there is no GPU; None if there is one.
        providers: execution providers of ONNX Runtime; empty if it is not installed.
        openvino: its version and the precisions that this processor computes in, or why it cannot
            be used.
        plugin: properties of the plugin library; None if none was named.
        commands: for each command, whether it can run here.
        warnings: conditions that make results worse or slower.
    """

    machine: Mapping[str, str]
    packages: Mapping[str, str]
    tensorrt: Mapping[str, str]
    gpu: Mapping[str, str]
    no_gpu: str | None
    providers: tuple[str, ...]
    openvino: str
    plugin: Mapping[str, str] | None
    commands: tuple[Readiness, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data."""
        return dataclasses.asdict(self)


def diagnose(index: int = 0, plugin: Path | None = None, api: str = "auto") -> Diagnosis:
    """Examine this machine; a missing package or device is not an error.

    Args:
        index: number of the CUDA device.
        plugin: library of the pooling plugin to describe.
        api: the library that accesses the device.

    Raises:
        UsageError: there is no such `api`.
        ModelFileError, MissingCapabilityError: `plugin` is not a plugin library, or cannot be
            loaded.
    """
    here, preflight = Environment.here(), read_preflight()
    gpu, no_gpu = _gpu(index, api)
    providers = _providers()
    absent = _absent(no_gpu, providers)
    machine = {
        "processor": f"{here.processor}, {counted(here.cores, 'core')}",
        "system": f"{here.system}, Python {here.python}",
        **dict(line.split(": ", 1) for line in preflight.lines()),
    }
    return Diagnosis(
        machine=machine,
        packages=package_versions(PACKAGES),
        tensorrt={WORDS[name]: _tensorrt(name) for name in _runtimes()},
        gpu=gpu,
        no_gpu=no_gpu,
        providers=providers,
        openvino=_openvino(),
        plugin=None if plugin is None else _plugin(plugin),
        commands=readiness(absent),
        warnings=tuple(preflight.warnings()),
    )


def _absent(no_gpu: str | None, providers: Sequence[str]) -> list[Need]:
    device, provider = needs_beside_packages()
    absent = [] if no_gpu is None else [device]
    return absent if "CUDAExecutionProvider" in providers else [*absent, provider]


def _runtimes() -> tuple[str, ...]:
    """Return both flavours of TensorRT, and the runtimes without a builder that are installed."""
    return tuple(dict.fromkeys((*FLAVOURS, *installed_runtimes())))


def _tensorrt(flavour: str) -> str:
    try:
        return load_tensorrt(flavour).version
    except GspDeployError as error:
        return str(error)


def _plugin(library: Path) -> dict[str, str]:
    found = describe_plugin(library)
    return {
        "library": str(found.path),
        "ABI": str(found.abi),
        "gsp-deploy": found.version,
        "built for TensorRT": ".".join(str(part) for part in found.tensorrt),
    }


def _providers() -> tuple[str, ...]:
    if not can_import("onnxruntime"):
        return ()
    try:
        import onnxruntime

        return tuple(onnxruntime.get_available_providers())
    except Exception:  # a broken installation can raise any error
        return ()


def _openvino() -> str:
    if not can_import("openvino"):
        return f"not installed: {install_line('openvino')}"
    try:
        import openvino

        from gsp_deploy.runtime.openvino_model import processor_precisions

        able = ", ".join(processor_precisions())
        return f"{openvino.__version__.partition('-')[0]}, this processor computes in {able}"
    except Exception as error:  # a broken installation can raise any error
        return f"cannot be used: {reason_of(error)}"


def _gpu(index: int, api: str) -> tuple[dict[str, str], str | None]:
    try:
        choose_api(api)
        device = open_device(index, api)
        return {**_properties(device), **_state(device)}, None
    except GspDeployError as error:
        # The error advises to run `gsp-deploy doctor`, which is running already.
        return {}, str(error).partition("; `gsp-deploy doctor`")[0]


def _properties(device: Device) -> dict[str, str]:
    found = device.properties()
    with device.current():
        memory = device.memory()
    return {
        "name": f"{found.name}, compute capability {found.compute_capability}",
        "driver": f"CUDA {found.driver}; runtime {found.runtime}, by {device.api}",
        "free memory": f"{memory.free // _MIB:,} of {memory.total // _MIB:,} MiB",
        "cache": f"{found.l2_bytes // 1024:,} KiB of L2, {found.multiprocessors} multiprocessors",
    }


def _state(device: Device) -> dict[str, str]:
    """Return the current clocks, power and temperature, as far as they can be read."""
    from gsp_deploy.benchmark.gpu.telemetry import open_telemetry

    try:
        with open_telemetry(device.properties()) as source:
            now = source.read(0.0)
    except GspDeployError as error:
        return {"clocks": f"unknown: {reason_of(error)}"}
    readings: list[tuple[str, float | None, Callable[[float], str]]] = [
        ("GPU clock", now.gpu_mhz, lambda value: f"{value:.0f} MHz"),
        ("memory clock", now.memory_mhz, lambda value: f"{value:.0f} MHz"),
        ("power", now.watts, lambda value: f"{value:.1f} W"),
        ("temperature", now.celsius, lambda value: f"{value:.0f} C"),
    ]
    state = {name: words(value) for name, value, words in readings if value is not None}
    return {**state, "throttling": ", ".join(now.throttling) or "no"}
