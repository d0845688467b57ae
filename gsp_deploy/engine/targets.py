"""Choose the GPUs for a plan: `sm_86`, several of them, `all`, or this machine's GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gsp_deploy.engine.api import TensorRT
from gsp_deploy.engine.machine import Machine
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief

ALL = "all"
_TARGET = re.compile(r"(?:sm_?)?(\d{1,2})\.?(\d)", re.IGNORECASE)
_MEMBER = re.compile(r"SM(\d+)(\d)")


def parse_targets(texts: Sequence[str]) -> tuple[str, ...]:
    """Return compute capabilities such as `8.6` for `sm_86`, `86` or `8.6`, separated by commas.

    Raises:
        UsageError: a target is not a compute capability, or `all` is combined with others.

    >>> parse_targets(["sm_86,8.9"])
    ('8.6', '8.9')
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    if ALL in words:
        if len(set(words)) > 1:
            raise UsageError("--target all includes every target; leave the others out")
        return (ALL,)
    return tuple(dict.fromkeys(_capability(word) for word in words))


def _capability(word: str) -> str:
    found = _TARGET.fullmatch(word)
    if found is None:
        raise UsageError(f"expected a target such as sm_86, or all, got {brief(word)}")
    return f"{found[1]}.{found[2]}"


def sm_of(capability: str) -> str:
    """Return `sm_86` for `8.6`."""
    return "sm_" + capability.replace(".", "")


def known_targets(tensorrt: TensorRT) -> dict[str, Any]:
    """Return TensorRT-RTX's targets by compute capability, in ascending order."""
    enum = getattr(tensorrt.module, "ComputeCapability", None)
    found = (_MEMBER.fullmatch(name) for name in dir(enum))
    pairs = sorted((int(match[1]), int(match[2]), match[0]) for match in found if match)
    return {f"{major}.{minor}": getattr(enum, name) for major, minor, name in pairs}


def choose_targets(
    tensorrt: TensorRT, asked: Sequence[str], machine: Machine
) -> tuple[tuple[str, ...], bool]:
    """Return the compute capabilities to build for, and whether failing ones may be skipped.

    TensorRT builds for this machine's GPU. TensorRT-RTX builds for the targets that you ask for;
    without any, for this machine's GPU, or for all targets if there is no GPU.

    Raises:
        UsageError: TensorRT got targets, or TensorRT-RTX does not support a target.
        MissingCapabilityError: TensorRT finds no GPU.
    """
    if not tensorrt.is_rtx:
        if asked:
            raise UsageError(
                "TensorRT builds for the GPU that is in the machine; leave --target out, or "
                "build a TensorRT-RTX plan with --flavour tensorrt-rtx"
            )
        if machine.compute_capability is None:
            raise MissingCapabilityError(
                "TensorRT builds on the GPU that the plan is for, and CUDA finds none here; build "
                "on that machine, or with --flavour tensorrt-rtx --target sm_86 for an RTX card"
            )
        return (machine.compute_capability,), False
    known = known_targets(tensorrt)
    if not asked and machine.compute_capability in known:
        return (machine.compute_capability,), False
    if not asked or tuple(asked) == (ALL,):
        return tuple(known), True
    for capability in asked:
        if capability not in known:
            names = ", ".join(sm_of(name) for name in known)
            raise UsageError(
                f"{tensorrt.name} does not build for {sm_of(capability)}, only for {names}; "
                "Jetson and datacenter GPUs are built for by TensorRT, on the machine itself"
            )
    return tuple(asked), False
