"""Describe this machine (TensorRT, GPU, platform), and check whether a plan fits it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from gsp_deploy.artifact.engine_manifest import EngineManifest
from gsp_deploy.base.platforms import install_line
from gsp_deploy.device import open_device
from gsp_deploy.engine.api import (
    WORDS,
    cuda_of,
    installed_runtimes,
    load_tensorrt,
    runtime_for,
    runtimes_of,
    this_platform,
    version_numbers,
)
from gsp_deploy.errors import GspDeployError, MissingCapabilityError

# Pairs of major versions (built by, run by) that version-compatible plans work across.
_CROSSES = {(10, 11)}


@dataclass(frozen=True)
class Machine:
    """What decides whether a plan can run here.

    Attributes:
        flavour: `tensorrt`, `tensorrt-rtx` or one of their runtimes; None where none is installed.
        tensorrt_version: its version.
        device: name of the GPU; None if CUDA finds no GPU.
        compute_capability: such as `8.7`.
        cuda_version: of CUDA's runtime, or the version that TensorRT was built for.
        platform: such as `linux aarch64`.
        integrated: the GPU shares its memory with the host, as on a Jetson.
        driver: the newest CUDA that the driver supports; None if CUDA finds no GPU.
    """

    flavour: str | None
    tensorrt_version: str | None
    device: str | None
    compute_capability: str | None
    cuda_version: str | None
    platform: str
    integrated: bool = False
    driver: str | None = None

    @classmethod
    def here(cls, flavour: str | None = None, index: int = 0) -> Machine:
        """Describe this machine as far as possible; missing parts are not an error."""
        try:
            tensorrt = load_tensorrt(flavour)
        except MissingCapabilityError:
            found, version, cuda = None, None, None
        else:
            found, version, cuda = tensorrt.flavour, tensorrt.version, cuda_of(tensorrt)
        try:
            with closing(open_device(index)) as gpu:
                properties = gpu.properties()
        except GspDeployError:
            return cls(found, version, None, None, cuda, this_platform())
        return cls(
            found,
            version,
            properties.name,
            properties.compute_capability,
            properties.runtime,
            this_platform(),
            properties.integrated,
            properties.driver,
        )

    @classmethod
    def for_plan(cls, manifest: EngineManifest, index: int = 0) -> Machine:
        """Describe this machine with the installed runtime that suits a plan."""
        return cls.here(runtime_for(manifest), index)


def check_fits(manifest: EngineManifest, machine: Machine, name: str = "the engine") -> None:
    """Raise an error of one line if a plan cannot run on a machine.

    Raises:
        MissingCapabilityError: the plan does not fit; the message says what it was built for, what
            this machine has, and what to do.
    """
    if found := misfits(manifest, machine):
        raise MissingCapabilityError(f"{name}: {found[0]}")


def misfits(manifest: EngineManifest, machine: Machine) -> tuple[str, ...]:
    """Return the reasons why a plan cannot run on a machine, one sentence each, worst first."""
    found = (
        _platform(manifest, machine),
        _version(manifest, machine),
        _capability(manifest, machine),
    )
    return tuple(sentence for sentence in found if sentence is not None)


def _platform(manifest: EngineManifest, machine: Machine) -> str | None:
    if manifest.platform == machine.platform:
        return None
    return (
        f"built on {manifest.platform}, and plans do not run on another platform; this is "
        f"{machine.platform}: build it here"
    )


def _version(manifest: EngineManifest, machine: Machine) -> str | None:
    built = f"{WORDS[manifest.flavour]} {manifest.tensorrt_version}"
    if machine.flavour not in runtimes_of(manifest) or machine.tensorrt_version is None:
        return f"built by {built}, {_not_installed(manifest, machine)}"
    if machine.tensorrt_version == manifest.tensorrt_version:
        return None
    here = f"{WORDS[machine.flavour]} {machine.tensorrt_version}"
    if not manifest.version_compatible:
        how = "" if manifest.flavour == "tensorrt-rtx" else ", or with --version-compatible"
        return (
            f"built by {built} and runs on that version alone; this is {here}: build it again{how}"
        )
    if manifest.lean and machine.flavour == manifest.flavour:
        return (
            f"built by {built} without its lean runtime, so that it runs on that version or on a "
            f"lean runtime; this is {here}: {install_line('lean')}"
        )
    old, new = version_numbers(manifest.tensorrt_version), version_numbers(machine.tensorrt_version)
    if new < old:
        return (
            f"built by {built}, and version-compatible plans run on later versions; this is {here}"
        )
    if new[0] != old[0] and (old[0], new[0]) not in _CROSSES:
        return (
            f"built by {built}, whose plans do not run on {here}, compatible or not: build it again"
        )
    return None


def _not_installed(manifest: EngineManifest, machine: Machine) -> str:
    if manifest.lean:
        return f"for its lean runtime, and neither is installed here: {install_line('lean')}"
    others = (machine.flavour, *installed_runtimes()) if machine.flavour else installed_runtimes()
    other = f", only {WORDS[others[0]]}" if others else ""
    how = ""
    if "tensorrt-lean" in others and not manifest.version_compatible:
        how = " with --version-compatible --lean"
    return f"which is not installed here{other}; install it, or build again{how}"


def _capability(manifest: EngineManifest, machine: Machine) -> str | None:
    targets = manifest.compute_capabilities
    wanted = ", ".join(targets)
    if machine.compute_capability is None:
        return f"needs a GPU of compute capability {wanted}, and CUDA finds none here"
    if machine.compute_capability in targets:
        return None
    here = f"this {machine.device} has {machine.compute_capability}"
    if manifest.hardware_compatibility == "ampere+":
        if machine.integrated:
            return f"hardware-compatible plans do not run on Jetson; {here}: build it there"
        if version_numbers(machine.compute_capability) >= (8, 0):
            return None
        return f"built for compute capability 8.0 and later; {here}: build it for this GPU"
    return f"built for compute capability {wanted}; {here}: build it for this GPU"
