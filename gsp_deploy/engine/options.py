"""Settings of a build, validated before any work starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gsp_deploy.artifact.engine_manifest import HardwareCompatibility
from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.profiles import SizeRange, SpatialRange
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief
from gsp_deploy.precision import precision_named

OPTIMIZATION_LEVELS = range(6)
# Build flags: TensorRT's name, and the name of the option.
_FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "lean": "EXCLUDE_LEAN_RUNTIME",
    "refit": "REFIT",
    "strip_weights": "STRIP_PLAN",
    "weight_streaming": "WEIGHT_STREAMING",
}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class BuildOptions:
    """Settings of `build_engine`.

    Args:
        batches, sizes: ranges of the open sizes, one for each profile; empty for the defaults.
        precision: what the network must compute in; None means what the file declares.
        targets: compute capabilities for TensorRT-RTX, such as `8.6`, or `all` alone.
        workspace: bytes of device memory that one layer may use while it runs; None leaves it
            to TensorRT.
        optimization_level: 0 (fast to build) to 5 (fast to run); None is TensorRT's own, 3.
        timing_cache: file of kernel timings, created if it does not exist.
        hardware_compatibility: `none`, `ampere+` for GPUs of 8.0 and later, `same-capability`.
        version_compatible: let later versions of TensorRT run the plan.
        lean: leave the lean runtime out of a version-compatible plan. The plan is smaller and
            contains no host code, and its plugin stays in a file of its own; the lean runtime must
            be installed where it runs.
        refit: let `refit_engine` replace the weights later.
        strip_weights: leave the weights out of the plan; you must refit it before it runs.
        weight_streaming: keep weights in host memory if the device has too little.
        tf32: let float32 products round their inputs to 10 bits of mantissa, as TensorRT does by
            default. It is off here, because the pooling's cost would be as coarse as in fp16.
        low_memory: start with a small workspace and few kernels to try.
        plugin: library of the pooling plugin.

    Raises:
        UsageError: a value is outside its domain.
    """

    batches: tuple[SizeRange, ...] = ()
    sizes: tuple[SpatialRange, ...] = ()
    precision: str | None = None
    targets: tuple[str, ...] = ()
    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    lean: bool = False
    refit: bool = False
    strip_weights: bool = False
    weight_streaming: bool = False
    tf32: bool = False
    low_memory: bool = False
    plugin: Path | None = None

    def __post_init__(self) -> None:
        if self.precision is not None:
            precision_named(self.precision)
        if self.workspace is not None and self.workspace < 1 << 20:
            raise UsageError(f"the workspace must be at least 1 MiB, got {self.workspace} bytes")
        if self.lean and not self.version_compatible:
            raise UsageError("--lean is for version-compatible plans; add --version-compatible")
        level = self.optimization_level
        if level is not None and level not in OPTIMIZATION_LEVELS:
            raise UsageError(f"the optimisation level must be from 0 to 5, got {level}")
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            raise UsageError(
                f"hardware compatibility must be one of "
                f"{', '.join(get_args(HardwareCompatibility))}, "
                f"got {brief(self.hardware_compatibility)}"
            )

    @property
    def puts_plugin_inside(self) -> bool:
        """Whether the plan contains the plugin's library: if it contains host code anyway."""
        return self.plugin is not None and self.version_compatible and not self.lean

    @property
    def flags(self) -> tuple[str, ...]:
        """TensorRT's names of the build flags that were asked for."""
        return tuple(flag for name, flag in _FLAGS.items() if getattr(self, name))

    def check_against(self, tensorrt: TensorRT, has_gpu: bool) -> None:
        """Raise if this TensorRT cannot do what the options ask for.

        Raises:
            UsageError: the option is not for TensorRT-RTX.
            MissingCapabilityError: this version lacks it, or needs a GPU for it.
        """
        if tensorrt.is_rtx:
            self._check_rtx(tensorrt, has_gpu)
        for flag in self.flags:
            if tensorrt.member("BuilderFlag", flag) is None:
                raise MissingCapabilityError(f"{tensorrt.name} has no build flag {flag}")

    def _check_rtx(self, tensorrt: TensorRT, has_gpu: bool) -> None:
        if self.hardware_compatibility != "none":
            raise UsageError(
                "TensorRT-RTX has no hardware compatibility: name the GPUs, --target sm_86,sm_120"
            )
        if self.version_compatible:
            raise UsageError(
                "TensorRT-RTX plans run on their own version alone; leave --version-compatible out "
                "and build for each version, or build with --flavour tensorrt"
            )
        if self.plugin is not None:
            raise UsageError(
                "TensorRT-RTX cannot host plugins; leave --plugin out (the node's own body runs "
                "instead) or build with --flavour tensorrt"
            )
        if (self.refit or self.strip_weights) and not has_gpu:
            raise MissingCapabilityError(
                f"{tensorrt.name} makes refittable and stripped plans only where there is a GPU, "
                "and CUDA finds none here"
            )


def parse_bytes(text: str) -> int:
    """Return the bytes in `536870912`, `512M`, `512MiB` or `1.5G`; units are powers of 1024.

    Raises:
        UsageError: the text is not an amount of memory.

    >>> parse_bytes("512M")
    536870912
    """
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"expected an amount of memory such as 512M or 2G, got {brief(text)}")
    return int(float(found[1]) * _UNITS[found[2].lower()])
