"""Describe this machine: its processor, its cores, and the versions of installed packages."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gsp_deploy.base.cores import available_cores

MEASURED_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "torch", "timm")


@dataclass(frozen=True)
class Environment:
    """The machine and software of a measurement; every report prints it beside its figures."""

    processor: str
    cores: int
    system: str
    python: str
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Environment:
        """Describe this machine."""
        return cls(
            processor=_processor(),
            cores=available_cores(),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            packages=package_versions(MEASURED_PACKAGES),
        )


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed, without importing it."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def can_import(module: str) -> bool:
    """Whether a module is installed; does not import it.

    >>> can_import("json"), can_import("no_such_module")
    (True, False)
    """
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or sys.modules has it without a spec
        return False


def has_vnni() -> bool:
    """Whether the processor has VNNI, int8 products that do not saturate; False if unknown."""
    flags = set(_cpuinfo("flags").split())
    return bool(flags & {"avx512_vnni", "avx_vnni"})


def keep_int8_exact(settings: Any) -> None:
    """Make ONNX Runtime's settings of a session compute int8 products without saturation.

    x86-64 saturates them in 16 bits. With VNNI it does not, and the entry takes twice the time.
    """
    if not has_vnni():
        settings.add_session_config_entry("session.x64quantprecision", "1")


def _processor() -> str:
    return _cpuinfo("model name", "Model") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str:
    """Return the first value of these keys that Linux has for the first processor, or ''."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(keys):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""
