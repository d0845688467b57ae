"""Find the installed TensorRT, and answer what its version supports.

TensorRT and TensorRT-RTX share their Python interface. For every difference between the two, or
between 10.3 and 11.4, the class `TensorRT` has a property; no other module checks which it is.
TensorRT's lean and dispatch runtimes have the part of that interface that runs plans; they run
version-compatible plans only.
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

from gsp_deploy.artifact.engine_manifest import FLAVOURS, EngineManifest
from gsp_deploy.base.environment import can_import
from gsp_deploy.base.platforms import install_line, is_jetson, package_line
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief, reason_of

WORDS = {
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
    "tensorrt-lean": "TensorRT lean runtime",
    "tensorrt-dispatch": "TensorRT dispatch runtime",
}
OLDEST = (10, 3)

_MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "tensorrt-lean": ("tensorrt_lean", "tensorrt_lean_bindings"),
    "tensorrt-dispatch": ("tensorrt_dispatch", "tensorrt_dispatch_bindings"),
}
_EXTRAS = {"tensorrt-rtx": "rtx", "tensorrt-lean": "lean"}
_CUDA_IN_NAME = re.compile(r"tensorrt.*[-_]cu(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class TensorRT:
    """An imported TensorRT and its features.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`, or `tensorrt-lean` or `tensorrt-dispatch`, which
            run plans and build none.
        module: the Python module; its names are the same for all.
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

    @property
    def builds(self) -> bool:
        """Whether it builds plans."""
        return self.flavour in FLAVOURS

    def member(self, enum: str, name: str) -> Any | None:
        """Return the member of an enumeration, or None if this version does not have it."""
        return getattr(getattr(self.module, enum, None), name, None)

    def has(self, kind: str, name: str) -> bool:
        """Whether a class of the module has an attribute of this name."""
        return hasattr(getattr(self.module, kind, None), name)


def installed_flavours() -> tuple[str, ...]:
    """Return the flavours that build plans and can be imported, without importing them."""
    return tuple(name for name in installed_runtimes() if name in FLAVOURS)


def installed_runtimes() -> tuple[str, ...]:
    """Return the runtimes that can be imported, those that only run plans last."""
    return tuple(name for name in _MODULES if _module_of(name) is not None)


def runtimes_of(manifest: EngineManifest) -> tuple[str, ...]:
    """Return the runtimes that can run a plan, the preferred one first.

    A version-compatible plan contains the lean runtime of its version, which the dispatch runtime
    uses. Without it inside, the plan needs the lean runtime, or TensorRT of its own version.
    """
    if not manifest.version_compatible:
        return (manifest.flavour,)
    if manifest.lean:
        return ("tensorrt-lean", manifest.flavour)
    return (manifest.flavour, "tensorrt-lean", "tensorrt-dispatch")


def runtime_for(manifest: EngineManifest | None) -> str | None:
    """Return the installed runtime for a plan, or the one to install if there is none.

    None stands for the one that `load_tensorrt` takes without a name.
    """
    installed = installed_runtimes()
    if manifest is None:
        return installed[0] if installed else None
    names = runtimes_of(manifest)
    return next((name for name in names if name in installed), names[0])


def load_tensorrt(flavour: str | None = None) -> TensorRT:
    """Import TensorRT and return it.

    Args:
        flavour: `tensorrt`, `tensorrt-rtx`, `tensorrt-lean` or `tensorrt-dispatch`; None takes
            TensorRT where it is installed, else TensorRT-RTX.

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
    if flavour not in _MODULES:
        raise UsageError(f"expected one of {', '.join(_MODULES)}, got {brief(flavour)}")
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
    if flavour != "tensorrt-rtx" and version_numbers(found)[:2] < OLDEST:
        raise MissingCapabilityError(
            f"{WORDS[flavour]} {found} is too old: 10.3 (JetPack 6.1) is the first that builds and "
            "runs what gsp-deploy exports"
        )
    return TensorRT(flavour, module, found)


def _hint(flavour: str) -> str:
    extra = _EXTRAS.get(flavour)
    return package_line(flavour) if extra is None else install_line(extra)


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
    for distribution in distributions():
        name = (distribution.metadata["Name"] or "").replace("_", "-").lower()
        whose = [flavour for flavour in _MODULES if name.startswith(flavour)]
        if not whose or max(whose, key=len) != tensorrt.flavour:
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
