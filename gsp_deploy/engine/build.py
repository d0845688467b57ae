"""Build a plan and its manifest from an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gsp_deploy.artifact import ExportManifest, TensorSpec, sidecar_path, write_sidecar
from gsp_deploy.artifact.artifact import Artifact
from gsp_deploy.artifact.engine_manifest import (
    FLAVOURS,
    EngineManifest,
    PluginRecord,
    PrecisionSummary,
    ShapeRange,
)
from gsp_deploy.artifact.identity import identity
from gsp_deploy.artifact.kind import ENGINE
from gsp_deploy.artifact.onnx_manifest import read_onnx_manifest
from gsp_deploy.base.files import replacing_together, sha256_of
from gsp_deploy.base.progress import Announce
from gsp_deploy.engine.api import load_tensorrt
from gsp_deploy.engine.attempt import Job
from gsp_deploy.engine.inspector import check_engine
from gsp_deploy.engine.layer_types import check_precision
from gsp_deploy.engine.machine import Machine
from gsp_deploy.engine.memory import peak_memory
from gsp_deploy.engine.network import OPEN, ParsedNetwork, parse_onnx
from gsp_deploy.engine.options import BuildOptions
from gsp_deploy.engine.plugins import load_plugin
from gsp_deploy.engine.profiles import DEFAULT_BATCH, LOW_MEMORY_BATCH, make_profiles
from gsp_deploy.engine.progress import Report
from gsp_deploy.engine.retries import Plan, build_plan
from gsp_deploy.engine.starting import check_driver
from gsp_deploy.engine.targets import choose_targets
from gsp_deploy.errors import UsageError


def build_engine(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    options: BuildOptions | None = None,
    flavour: str | None = None,
    announce: Announce = lambda line: None,
    report: Report = lambda done, phase: None,
) -> Artifact[EngineManifest]:
    """Build a plan from an ONNX file and write it with its manifest beside it.

    The network is strongly typed: the ONNX file decides the type of every layer. These types are
    compared with the precision that you ask for before the build starts.

    Args:
        source: an ONNX file.
        path: where the plan goes; the manifest goes to `<path>.json`.
        options: settings.
        flavour: `tensorrt` or `tensorrt-rtx`; None takes what is installed, TensorRT first, or
            TensorRT-RTX if you give targets.
        announce: called with a line of text for each event that the user should know about.
        report: called with the share that is done and TensorRT's name for the phase.

    Raises:
        UsageError: the options do not fit the file or this TensorRT.
        ModelFileError: the file is missing or damaged, or TensorRT cannot parse it.
        GateError: layers compute in another type than was asked for.
        MissingCapabilityError: TensorRT or the GPU is missing, or this version lacks something.
        GspDeployError: TensorRT cannot build it, or the plan cannot be written.
    """
    source, path, options = Path(source), Path(path), options or BuildOptions()
    tensorrt = load_tensorrt(flavour or (FLAVOURS[1] if options.targets else None))
    machine = Machine.here(tensorrt.flavour)
    if machine.driver is not None:
        check_driver(tensorrt, machine.driver)
    options.check_against(tensorrt, machine.device is not None)
    targets, may_narrow = choose_targets(tensorrt, options.targets, machine)
    library = options.plugin
    plugin = None if library is None else load_plugin(tensorrt, library)
    if plugin is not None and options.puts_plugin_inside:
        plugin = replace(plugin, inside=True)
    export = read_onnx_manifest(source)
    parsed = parse_onnx(tensorrt, source)
    precision = check_precision(parsed, options.precision, export)
    profiles = _profiles(parsed, export, options)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        announce(line)

    job = Job(parsed, profiles, options, note, report)
    with replacing_together(sidecar_path(path), path) as (_, draft):
        with peak_memory() as peak:
            plan = build_plan(job, targets, may_narrow)
        precision = check_engine(parsed, plan.data, precision)
        draft.write_bytes(plan.data)
        manifest = replace(
            _manifest(job, plan, export, precision, machine, plugin),
            plan_sha256=sha256_of(draft),
            peak_memory_bytes=peak.bytes,
            notes=tuple(notes),
        )
        write_sidecar(manifest, draft)
    return Artifact(path, ENGINE, manifest)


def _profiles(
    parsed: ParsedNetwork, export: ExportManifest | None, options: BuildOptions
) -> tuple[Mapping[str, ShapeRange], ...]:
    if len(parsed.inputs) != 1:
        names = ", ".join(spec.name for spec in parsed.inputs) or "none"
        raise UsageError(f"{parsed.source}: expected one input of images, found {names}")
    default = LOW_MEMORY_BATCH if options.low_memory else DEFAULT_BATCH
    try:
        return make_profiles(parsed.inputs[0], export, options.batches, options.sizes, default)
    except UsageError as error:
        raise UsageError(f"{parsed.source}: {error}") from error


def _manifest(
    job: Job,
    plan: Plan,
    export: ExportManifest | None,
    precision: PrecisionSummary,
    machine: Machine,
    plugin: PluginRecord | None,
) -> EngineManifest:
    """Return the manifest without the plan's hash and the measurements around the build."""
    parsed, options = job.parsed, job.options
    return EngineManifest(
        plan_sha256="0" * 64,
        plan_bytes=len(plan.data),
        onnx_name=parsed.source.name,
        onnx_sha256=identity(parsed.source),
        flavour=parsed.tensorrt.flavour,  # type: ignore[arg-type]
        tensorrt_version=parsed.tensorrt.version,
        cuda_version=machine.cuda_version,
        platform=machine.platform,
        device=machine.device,
        compute_capabilities=plan.targets,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        lean=options.lean,
        profiles=job.profiles,
        inputs=_named(parsed.inputs, () if export is None else export.inputs),
        outputs=_named(parsed.outputs, () if export is None else export.outputs),
        layers=parsed.network.num_layers,
        precision=precision,
        plugin=plugin,
        export=export,
        options={**_settings(options), **asdict(plan.effort)},
        build_seconds=round(plan.seconds, 3),
    )


def _settings(options: BuildOptions) -> dict[str, Any]:
    """Return the options that no other field of the manifest contains."""
    names = ("refit", "strip_weights", "tf32", "low_memory")
    return {name: getattr(options, name) for name in names}


def _named(found: Sequence[TensorSpec], declared: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Give open sizes their names from the ONNX file, or else names by position."""
    known = {spec.name: spec.shape for spec in declared}
    specs = []
    for spec in found:
        names = known.get(spec.name, ())
        words = (
            names
            if len(names) == len(spec.shape)
            else ("batch", *(f"size_{axis}" for axis in range(1, len(spec.shape))))
        )
        shape = [
            word if size == OPEN else size for word, size in zip(words, spec.shape, strict=True)
        ]
        specs.append(TensorSpec(spec.name, spec.dtype, tuple(shape)))
    return tuple(specs)
