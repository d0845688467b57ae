"""Retry a failed build with less effort, or for fewer targets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gsp_deploy.engine.attempt import BuildFailedError, Job
from gsp_deploy.engine.memory import Effort, is_cramped, is_out_of_memory, ladder
from gsp_deploy.engine.targets import sm_of
from gsp_deploy.errors import GspDeployError


@dataclass(frozen=True)
class Plan:
    """A serialized engine, its targets, and the effort and time of its build."""

    data: bytes
    targets: tuple[str, ...]
    effort: Effort
    seconds: float


def build_plan(job: Job, targets: tuple[str, ...], may_narrow: bool) -> Plan:
    """Return a plan for all targets; each time memory runs out, try again with less effort.

    Args:
        job: what to build.
        targets: compute capabilities.
        may_narrow: skip targets that the network cannot be built for, with a message to the
            user.

    Raises:
        GspDeployError: TensorRT cannot build it, in its own words.
    """
    efforts = ladder(job.options, job.parsed.tensorrt)
    for effort, smaller in zip(efforts, [*efforts[1:], None], strict=True):
        started = time.perf_counter()
        try:
            data = job.build(targets, effort)
        except BuildFailedError as error:
            if is_out_of_memory(error.messages) and smaller is not None:
                job.announce(f"out of memory with {effort}; trying again with {smaller}")
                continue
            if may_narrow and (fitting := _fitting(job, targets, effort)):
                return build_plan(job, fitting, False)
            raise _failure(job, effort, error) from error
        return Plan(data, targets, effort, time.perf_counter() - started)
    raise AssertionError("the ladder has at least one rung")


def _fitting(job: Job, targets: Sequence[str], effort: Effort) -> tuple[str, ...]:
    """Return the targets that can be built for; report each other target and the reason."""
    fitting = []
    for target in targets:
        try:
            job.build((target,), effort)
        except BuildFailedError as error:
            job.announce(f"{sm_of(target)} is left out: {error}")
        else:
            fitting.append(target)
    return tuple(fitting) if len(fitting) < len(targets) else ()


def _failure(job: Job, effort: Effort, error: BuildFailedError) -> GspDeployError:
    hint = ""
    if is_out_of_memory(error.messages):
        hint = (
            f" (with {effort}, the least there is). Free memory, lower the greatest --batch or "
            "--size, or build with --precision fp16"
        )
    elif effort.workspace is not None and is_cramped(error.messages):
        hint = (
            f". The workspace of {effort.workspace >> 20} MiB may be too small: raise --workspace"
        )
    where = f"{job.parsed.source}: {job.parsed.tensorrt.name}"
    return GspDeployError(f"{where} cannot build it: {error}{hint}")
