"""`gsp-deploy verify`: check that a bundle works on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsp_deploy_cli.options.common import Json
from gsp_deploy_cli.options.inputs import existing_path
from gsp_deploy_cli.options.runtime import PrecisionOption, RuntimeOption
from gsp_deploy_cli.tables import show


def verify(
    bundle: Annotated[
        Path, typer.Argument(help="The folder that `package` made.", callback=existing_path)
    ],
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N. (default: cuda for engines, else cpu)")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of one inference. (default: the runtime's choice)")
    ] = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    allow_fallback: Annotated[
        bool,
        typer.Option("--allow-fallback", help="Run the ONNX model if the engine does not fit."),
    ] = False,
    allow_host_code: Annotated[
        bool,
        typer.Option(
            "--allow-host-code", help="Load version-compatible engines, which carry host code."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Check a bundle's hashes, versions, device and embeddings. Exit code 3 if one is wrong."""
    from gsp_deploy.bundle import BundleOptions, verify_bundle

    options = BundleOptions(
        device=device,
        threads=threads,
        runtime=runtime,
        precision=precision,
        allow_fallback=allow_fallback,
        allow_host_code=allow_host_code,
    )
    with show.status(f"verifying {bundle}"):
        report = verify_bundle(bundle, options)
    if json:
        show.document("verify", report.to_dict())
    else:
        rows = [
            (check.name, f"{'ok' if check.passed else 'FAILED'}: {check.found}")
            for check in report.checks
        ]
        if report.runtime is not None:
            rows.insert(0, ("runs", f"{report.artifact} on {report.runtime}"))
        show.facts(str(bundle), rows)
    if report.fallback is not None:
        show.remark(f"fell back to {report.artifact}: {report.fallback}")
    report.raise_on_failure()
