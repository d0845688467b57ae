"""Print what `gsp-deploy build` found before the build, and the engine that it wrote."""

from __future__ import annotations

import dataclasses
from json import loads
from typing import TYPE_CHECKING

from gsp_deploy.artifact import shape_in_words
from gsp_deploy.base.words import counted
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.artifact.artifact import Artifact
    from gsp_deploy.artifact.engine_manifest import EngineManifest, ShapeRange
    from gsp_deploy.engine.preflight import Preflight

MIB = 1 << 20


def show_preflight(found: Preflight, low_memory: bool) -> None:
    """Print the memory that a build has, on a Jetson or with --low-memory, and the warnings."""
    if found.board is not None or low_memory:
        for line in found.lines():
            show.note(line)
    for line in found.warnings():
        show.remark(line)


def report(built: Artifact[EngineManifest], preflight: Preflight, json: bool) -> None:
    """Print the manifest as a JSON document, or its most important entries as facts."""
    if json:
        show.document(
            "build",
            {
                "path": str(built.path),
                "preflight": dataclasses.asdict(preflight),
                "manifest": loads(built.manifest.to_json()),
            },
        )
        return
    show.facts(str(built.path), rows_of(built.manifest))


def rows_of(manifest: EngineManifest) -> list[tuple[str, str]]:
    """Return the facts of an engine to print, one named line each."""
    from gsp_deploy.engine.api import WORDS
    from gsp_deploy.engine.targets import sm_of

    targets = ", ".join(sm_of(capability) for capability in manifest.compute_capabilities)
    where = "without a GPU" if manifest.device is None else f"on {manifest.device}"
    rows = [
        ("built by", f"{WORDS[manifest.flavour]} {manifest.tensorrt_version}, {where}"),
        ("for", f"{targets} on {manifest.platform}"),
        *(("input", str(tensor)) for tensor in manifest.inputs),
        *(("output", str(tensor)) for tensor in manifest.outputs),
        *(
            ("profile", f"{name} {_range(shapes)}")
            for profile in manifest.profiles
            for name, shapes in profile.items()
        ),
        ("precision", _precision(manifest)),
    ]
    if manifest.plugin is not None:
        rows.append(("plugin", f"{manifest.plugin.library}, ABI {manifest.plugin.abi}"))
    if (certificate := manifest.certificate) is not None:
        rows.append(("solver", certificate.steps_in_words))
        rows.append(("guarantee", certificate.guarantee_in_words))
        rows.append(("measured", certificate.measured_in_words))
    rows += [
        (
            "size",
            f"{manifest.plan_bytes / MIB:.1f} MiB, {counted(manifest.layers, 'layer')} parsed",
        ),
        (
            "built in",
            f"{manifest.build_seconds:.1f} s, {manifest.peak_memory_bytes // MIB} MiB at the peak",
        ),
    ]
    return rows


def _range(shapes: ShapeRange) -> str:
    least, most, best = map(shape_in_words, (shapes.min, shapes.max, shapes.opt))
    return best if least == most else f"{least} to {most}, best at {best}"


def _precision(manifest: EngineManifest) -> str:
    summary = manifest.precision
    counts = ", ".join(f"{count} {dtype}" for dtype, count in sorted(summary.layers.items()))
    return f"{summary.asked}, verified in the {summary.verified_on}: layers {counts}"
