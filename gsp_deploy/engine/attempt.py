"""Try once to build a plan with given builder settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsp_deploy.artifact.engine_manifest import ShapeRange
from gsp_deploy.base.progress import Announce
from gsp_deploy.engine.log import reason_for
from gsp_deploy.engine.memory import Effort
from gsp_deploy.engine.network import OPEN, ParsedNetwork
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.progress import BuildProgress, Report, make_monitor
from gsp_deploy.engine.targets import known_targets
from gsp_deploy.engine.timing_cache import attach_timing_cache, save_timing_cache
from gsp_deploy.errors import MissingCapabilityError, UsageError

_LEVELS = {"ampere+": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}


class BuildFailedError(Exception):
    """TensorRT built no plan. `messages` are its own error messages."""

    def __init__(self, messages: Sequence[str]) -> None:
        super().__init__(reason_for(messages))
        self.messages = tuple(messages)


@dataclass(frozen=True)
class Job:
    """The settings that all attempts to build one plan share."""

    parsed: ParsedNetwork
    profiles: tuple[Mapping[str, ShapeRange], ...]
    options: BuildOptions
    announce: Announce
    report: Report

    def build(self, targets: Sequence[str], effort: Effort) -> bytes:
        """Return a plan.

        Raises:
            BuildFailedError: TensorRT made none.
            UsageError: TensorRT does not accept a profile.
            MissingCapabilityError: this version lacks a setting.
        """
        parsed, log = self.parsed, self.parsed.log
        log.errors.clear()
        log.warnings.clear()
        config = parsed.builder.create_builder_config()
        monitor = make_monitor(parsed.tensorrt, BuildProgress(self.report))
        config.progress_monitor = monitor
        self._set_flags(config, effort)
        self._set_limits(config, effort)
        self._set_targets(config, targets)
        self._add_profiles(config)
        cache = self.options.timing_cache
        has_cache = cache is not None and attach_timing_cache(
            parsed.tensorrt, config, cache, log, self.announce
        )
        log.errors.clear()  # drop messages about a foreign cache, which is handled
        try:
            plan = parsed.builder.build_serialized_network(parsed.network, config)
        except (MemoryError, RuntimeError) as error:
            raise BuildFailedError([*log.errors, str(error)]) from error
        if monitor.interrupted is not None:
            raise monitor.interrupted
        if plan is None:
            raise BuildFailedError([*log.warnings, *log.errors])
        if has_cache and cache is not None:
            save_timing_cache(config, cache)
        return bytes(memoryview(plan))

    def _set_flags(self, config: Any, effort: Effort) -> None:
        tensorrt = self.parsed.tensorrt
        flags = set(self.options.flags) | (
            {"WEIGHT_STREAMING"} if effort.weight_streaming else set()
        )
        for name in sorted(flags):
            config.set_flag(tensorrt.member("BuilderFlag", name))
        tf32 = tensorrt.module.BuilderFlag.TF32
        (config.set_flag if self.options.tf32 else config.clear_flag)(tf32)
        # Names and types of layers, for the inspector and for profiles.
        config.profiling_verbosity = tensorrt.module.ProfilingVerbosity.DETAILED
        library = self.options.plugin
        if self.options.puts_plugin_inside and library is not None:
            config.plugins_to_serialize = [str(library.resolve())]
        level = _LEVELS.get(self.options.hardware_compatibility)
        if level is not None:
            member = tensorrt.member("HardwareCompatibilityLevel", level)
            if member is None:
                raise MissingCapabilityError(
                    f"{tensorrt.name} has no hardware compatibility "
                    f"{self.options.hardware_compatibility}"
                )
            config.hardware_compatibility_level = member

    def _set_limits(self, config: Any, effort: Effort) -> None:
        if effort.workspace is not None:
            pool = self.parsed.tensorrt.module.MemoryPoolType.WORKSPACE
            config.set_memory_pool_limit(pool, effort.workspace)
        if effort.optimization_level is not None:
            config.builder_optimization_level = effort.optimization_level
        if effort.tactics is not None:
            config.max_num_tactics = effort.tactics

    def _set_targets(self, config: Any, targets: Sequence[str]) -> None:
        tensorrt = self.parsed.tensorrt
        if not tensorrt.is_rtx:
            return
        known = known_targets(tensorrt)
        config.num_compute_capabilities = len(targets)
        for index, capability in enumerate(targets):
            config.set_compute_capability(known[capability], index)

    def _add_profiles(self, config: Any) -> None:
        if not any(OPEN in spec.shape for spec in self.parsed.inputs):
            return
        for shapes in self.profiles:
            profile = self.parsed.builder.create_optimization_profile()
            for name, ranges in shapes.items():
                profile.set_shape(name, ranges.min, ranges.opt, ranges.max)
            if config.add_optimization_profile(profile) < 0:
                reason = reason_for(self.parsed.log.errors)
                raise UsageError(f"TensorRT takes no profile {dict(shapes)}: {reason}")
