"""`gsp-deploy doctor`: what this machine has, what is missing, and whether it works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file
from gsp_deploy_cli.options.proof import ProofOptions
from gsp_deploy_cli.options.runtime import CudaApiOption
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.doctor.diagnosis import Diagnosis
    from gsp_deploy.doctor.selftest import SelfTest, Step
    from gsp_deploy.proof import Finding, Proof


def doctor(
    *,
    selftest: Annotated[
        bool,
        typer.Option("--selftest", help="Build and run a small model against known embeddings."),
    ] = False,
    plugin: Annotated[
        Path | None,
        typer.Option(help="Library of the pooling plugin to describe.", callback=existing_file),
    ] = None,
    gpu: Annotated[int, typer.Option(min=0, help="Number of the CUDA device.")] = 0,
    cuda_api: CudaApiOption = "auto",
    proof: ProofOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Check this machine: what is installed, and what each command still needs.

    You can paste the output into an issue. --selftest also runs a small model,
    and --selftest --full everything that only a machine with a GPU can show.
    Its exit codes: 3 if an embedding is wrong, 1 if an installed runtime fails,
    4 if no runtime is installed.
    """
    from gsp_deploy.artifact import sidecar_path
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.doctor.diagnosis import diagnose
    from gsp_deploy.doctor.selftest import run_selftest
    from gsp_deploy.proof import prove

    settings, output = proof.settings(selftest), proof.output
    for file in _files(output):
        if proof.model is not None:
            refuse_inputs_inside(file, [proof.model, sidecar_path(proof.model)])
        refuse_overwrite(file, force)
    found = diagnose(gpu, plugin, cuda_api)
    tested: SelfTest | Proof | None = None
    steps: Sequence[Step | Finding] = ()
    if settings is not None:
        tested = prove(found, settings, lambda part: show.note(f"proof: {part}"))
        steps = tested.findings
        _write(tested, output)
    elif selftest:
        tested = run_selftest(found, lambda step: show.note(f"self-test: {step}"))
        steps = tested.steps
    if json:
        more = {} if tested is None else {"selftest": tested.to_dict()}
        show.document("doctor", {**found.to_dict(), **more})
    else:
        _report(found, steps)
    if tested is not None:
        tested.check()


def _files(output: Path | None) -> tuple[Path, ...]:
    return () if output is None else (output.with_suffix(".md"), output)


def _write(proof: Proof, output: Path | None) -> None:
    """Write the findings as JSON and, beside it, as a page."""
    from gsp_deploy.base.files import document_text, write_texts

    if output is not None:
        page, document = _files(output)
        write_texts({page: proof.to_markdown(), document: document_text("proof", proof.to_dict())})


def _report(found: Diagnosis, steps: Sequence[Step | Finding]) -> None:
    show.facts("Machine", list(found.machine.items()))
    show.facts("GPU", list(found.gpu.items()) or [("none", found.no_gpu or "")])
    show.facts(
        "Runtimes",
        [
            *found.tensorrt.items(),
            ("OpenVINO", found.openvino),
            ("providers", ", ".join(found.providers) or "no ONNX Runtime"),
        ],
    )
    if found.plugin is not None:
        show.facts("Plugin", list(found.plugin.items()))
    show.facts("Packages", list(found.packages.items()))
    show.facts(
        "Commands",
        [
            (
                state.command,
                "ready"
                if state.is_ready
                else f"missing {', '.join(state.missing)}: {'; '.join(state.remedies)}",
            )
            for state in found.commands
        ],
    )
    if steps:
        show.facts("Self-test", [(s.name, f"{s.state}: {s.detail}") for s in steps])
    for warning in found.warnings:
        show.remark(warning)
