"""Load execution providers that come as libraries, beside those that ONNX Runtime was built with.

ONNX Runtime 1.22 and later can load such a library, called a plug-in. The library offers one or
several providers, each with the devices of this machine that it supports. Packages named
`onnxruntime-ep-...` contain one; they are found by that name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import onnxruntime

from gsp_deploy.errors import MissingCapabilityError, UsageError, reason_of

_PACKAGES = "onnxruntime-ep-"
_CPU_PROVIDER = "CPUExecutionProvider"
# Packages to install, by provider.
PIP_NAMES = {
    "OpenVINOExecutionProvider": "onnxruntime-ep-openvino",
    "NvTensorRTRTXExecutionProvider": "onnxruntime-ep-nv-tensorrt-rtx-cu13",
}
# Libraries stay loaded until the process ends, because sessions may use them.
_LOADED: dict[Path, frozenset[str]] = {}


@dataclass(frozen=True)
class Package:
    """An installed package with a library: its name, its providers, and where the library is."""

    name: str
    providers: tuple[str, ...]
    library: Path


def installed_packages() -> Iterator[Package]:
    """Yield the installed packages that contain a library, sorted by name."""
    found = {str(d.metadata["Name"]): d for d in distributions() if _names(d)}
    for name, distribution in sorted(found.items()):
        try:
            module: Any = import_module(_module_of(distribution))
            yield Package(name, tuple(module.get_ep_names()), Path(module.get_library_path()))
        except (ImportError, AttributeError, OSError):  # a package without what its name promises
            continue


def load_library(library: Path) -> frozenset[str]:
    """Load a library once in this process; return the providers with a device on this machine.

    Raises:
        MissingCapabilityError: there is no such library, it cannot be loaded, or this ONNX Runtime
            loads none.
    """
    key = library.resolve()
    if key in _LOADED:
        return _LOADED[key]
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise MissingCapabilityError(
            f"onnxruntime {onnxruntime.__version__} cannot load {library}; expected 1.22 or newer: "
            "pip install --upgrade onnxruntime"
        )
    if not library.is_file():
        raise MissingCapabilityError(f"{library}: no such library of an execution provider")
    before = _offered()
    try:
        onnxruntime.register_execution_provider_library(f"gsp_deploy:{key}", str(key))
    except Exception as error:  # ONNX Runtime raises a dozen types
        raise MissingCapabilityError(
            f"{library}: ONNX Runtime cannot load it as an execution provider "
            f"({reason_of(error).split(' : ')[-1]}); install what it needs, or pass the library "
            "of another package"
        ) from error
    _LOADED[key] = frozenset(_offered() - before)
    return _LOADED[key]


def devices_of(provider: str, device: str) -> list[Any]:
    """Return the device of a loaded provider to run on; empty if no library offers the provider.

    Args:
        provider: its full name.
        device: `cpu`, `cuda` or `cuda:N`. On `cpu`, a provider that does not support the
            processor runs on its own first device.

    Raises:
        MissingCapabilityError: the provider does not have that GPU.
    """
    offered = [found for found in _devices() if found.ep_name == provider]
    kind, _, index = device.partition(":")
    wanted = "GPU" if kind == "cuda" else "CPU"
    fitting = [found for found in offered if found.device.type.name == wanted]
    if kind == "cuda" and offered:
        number = int(index or 0)
        if number >= len(fitting):
            raise MissingCapabilityError(
                f"{provider} offers {len(fitting)} GPUs here, not {device}; leave out --device, or "
                "check the driver with nvidia-smi"
            )
        return [fitting[number]]
    return (fitting or offered)[:1]


def find_provider(asked: str, libraries: tuple[Path, ...]) -> str | None:
    """Return the full name of a provider that a library offers; load the package that has it.

    Args:
        asked: its full name or its short one, such as `openvino`.
        libraries: those to load first.

    Raises:
        MissingCapabilityError: a library cannot be loaded, or supports no device of this machine.
    """
    for library in libraries:
        load_library(library)
    if found := _named(asked, _offered()):
        return found
    for package in installed_packages():
        provider = _named(asked, set(package.providers))
        if provider is None:
            continue
        if provider not in load_library(package.library) and provider not in _offered():
            raise MissingCapabilityError(_no_device(package.name, provider))
        return provider
    return None


def only_provider(libraries: tuple[Path, ...]) -> str:
    """Return the provider of some libraries, if it is the only one.

    Raises:
        MissingCapabilityError: none of them supports a device of this machine.
        UsageError: there are several.
    """
    found = sorted(set().union(*(load_library(library) for library in libraries)))
    if not found:
        raise MissingCapabilityError(_no_device(", ".join(map(str, libraries)), "its provider"))
    if len(found) > 1:
        raise UsageError(
            f"{', '.join(map(str, libraries))}: offers {', '.join(found)}; choose one by --provider"
        )
    return found[0]


def _names(distribution: Distribution) -> bool:
    name = distribution.metadata["Name"] or ""
    return name.lower().replace("_", "-").startswith(_PACKAGES)


def _module_of(distribution: Distribution) -> str:
    listed = (distribution.read_text("top_level.txt") or "").split()
    return listed[0] if listed else str(distribution.metadata["Name"]).replace("-", "_")


def _devices() -> list[Any]:
    return list(onnxruntime.get_ep_devices()) if hasattr(onnxruntime, "get_ep_devices") else []


def _offered() -> set[str]:
    return {found.ep_name for found in _devices()} - {_CPU_PROVIDER}


def _named(asked: str, offered: set[str]) -> str | None:
    short = {name.removesuffix("ExecutionProvider").lower(): name for name in offered}
    return asked if asked in offered else short.get(asked.lower())


def _no_device(owner: str, provider: str) -> str:
    here = sorted({f"{d.device.type.name} of {d.device.vendor}" for d in _devices()})
    is_openvino = provider == "OpenVINOExecutionProvider"
    instead = "pass --runtime openvino instead" if is_openvino else "use another provider"
    return (
        f"{owner} is loaded, but {provider} supports no device that ONNX Runtime finds here "
        f"({', '.join(here) or sys.platform}); {instead}"
    )
