"""Find the installed TensorRT, and answer what its version supports.

TensorRT and TensorRT-RTX share their Python interface. For every difference between the two, or
between 10.3 and 11.4, the class `TensorRT` has a property; no other module checks which it is.
"""

from __future__ import annotations

import functools
import json
import platform
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from gsp_deploy.artifact.engine_manifest import FLAVOURS
from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import install_line, is_jetson, package_line
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief, reason_of

WORDS = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
OLDEST = (10, 3)

_MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_CUDA_IN_NAME = re.compile(r"tensorrt.*[-_]cu(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class TensorRT:
    """An imported TensorRT and its features.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        module: the Python module; its names are the same for both.
        version: such as `10.3.0`.
    """

    flavour: str
    module: ModuleType
    version: str

    @property
    def name(self) -> str:
        """Name and version in words, such as `TensorRT-RTX 1.7.1.116`."""
        return f"{WORDS[self.flavour]} {self.version}"

    @property
    def is_rtx(self) -> bool:
        """Whether plans are for chosen compute capabilities, and built without a GPU."""
        return self.flavour == "tensorrt-rtx"

    @property
    def hosts_plugins(self) -> bool:
        """Whether networks may hold plugins; TensorRT-RTX aborts the process at the first."""
        return not self.is_rtx

    @property
    def times_tactics(self) -> bool:
        """Whether the builder measures kernels on the GPU, so that a timing cache saves time."""
        return not self.is_rtx

    def member(self, enum: str, name: str) -> Any | None:
        """Return the member of an enumeration, or None if this version does not have it."""
        return getattr(getattr(self.module, enum, None), name, None)

    def has(self, kind: str, name: str) -> bool:
        """Whether a class of the module has an attribute of this name."""
        return hasattr(getattr(self.module, kind, None), name)


def installed_flavours() -> tuple[str, ...]:
    """Return the flavours that can be imported, without importing them."""
    return tuple(flavour for flavour in FLAVOURS if _module_of(flavour) is not None)


def load_tensorrt(flavour: str | None = None) -> TensorRT:
    """Import TensorRT and return it.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`; None takes TensorRT where it is installed, else
            TensorRT-RTX.

    Raises:
        UsageError: there is no such flavour.
        MissingCapabilityError: it is not installed, cannot be loaded, or is older than 10.3.
    """
    if flavour is None:
        installed = installed_flavours()
        if not installed:
            raise MissingCapabilityError(
                "neither TensorRT nor TensorRT-RTX is installed: "
                + _hint("tensorrt")
                + ("" if is_jetson() else f", or {_hint('tensorrt-rtx')}")
            )
        return _load(installed[0])
    if flavour not in FLAVOURS:
        raise UsageError(f"expected one of {', '.join(FLAVOURS)}, got {brief(flavour)}")
    return _load(flavour)


@functools.cache
def _load(flavour: str) -> TensorRT:
    name = _module_of(flavour)
    if name is None:
        raise MissingCapabilityError(f"{WORDS[flavour]} is not installed: {_hint(flavour)}")
    try:
        module = import_module(name)
    except Exception as error:  # a missing libnvinfer is an OSError, an ImportError or worse
        raise MissingCapabilityError(
            f"{WORDS[flavour]} is installed but cannot be loaded: {reason_of(error)}"
        ) from error
    found = str(getattr(module, "__version__", "0"))
    if flavour == "tensorrt" and version_numbers(found)[:2] < OLDEST:
        raise MissingCapabilityError(
            f"TensorRT {found} is too old: 10.3 (JetPack 6.1) is the first that builds and runs "
            "what gsp-deploy exports"
        )
    return TensorRT(flavour, module, found)


def _hint(flavour: str) -> str:
    return install_line("rtx") if flavour == "tensorrt-rtx" else package_line("tensorrt")


def _module_of(flavour: str) -> str | None:
    return next((name for name in _MODULES[flavour] if can_import(name)), None)


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: `10.3.0` is `(10, 3, 0)`."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0]))


def this_platform() -> str:
    """Return the platform that plans are tied to, besides the GPU, such as `linux x86_64`."""
    return f"{platform.system()} {platform.machine()}".lower()


def cuda_of(tensorrt: TensorRT) -> str | None:
    """Return the CUDA version that TensorRT was built for, from packages and files, or None.

    If the machine has a GPU, `Machine` holds the version of CUDA's runtime instead.
    """
    wanted = "tensorrt_rtx" if tensorrt.is_rtx else "tensorrt"
    for distribution in distributions():
        name = (distribution.metadata["Name"] or "").replace("-", "_").lower()
        is_rtx = name.startswith("tensorrt_rtx")
        if not name.startswith(wanted) or is_rtx != tensorrt.is_rtx:
            continue
        if found := _CUDA_IN_NAME.search(name):
            return found[1]
    return _installed_cuda()


def _installed_cuda(root: Path = Path("/")) -> str | None:
    """Return the version of CUDA that JetPack or a runfile installed, or None."""
    try:
        document = json.loads((root / "usr/local/cuda/version.json").read_text(encoding="utf-8"))
        return str(document["cuda"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
