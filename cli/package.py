"""`gsp-deploy package`: a model becomes a folder that proves itself on the target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import Force, Json

if TYPE_CHECKING:
    from gsp_deploy.bundle.packaging import PackagedBundle


def package(
    model: Annotated[Path, typer.Argument(help="An exported model (.onnx) or an engine.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    onnx: Annotated[
        Path | None,
        typer.Option(help="The ONNX file of an engine: golden embeddings, and the fallback."),
    ] = None,
    plugin: Annotated[
        Path | None, typer.Option(help="The shared object that an engine needs.")
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Golden images: a folder, file or glob pattern; repeatable. "
            "(default: built-in photographs)"
        ),
    ] = None,
    license_file: Annotated[
        Path | None,
        typer.Option("--license", help="A licence file. (default: what the model tells)"),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Put a model, its manifest and golden vectors into a folder for Python and C++."""
    from gsp_deploy.bundle.packaging import PackageOptions, package_model

    options = PackageOptions(onnx, plugin, images or None, license_file, force)
    with show.status(f"packaging {model.name}"):
        packaged = package_model(model, output, options)
    _report(packaged, json)


def _report(packaged: PackagedBundle, json: bool) -> None:
    import dataclasses

    manifest = packaged.manifest
    if json:
        files = [{"file": name, "bytes": size} for name, size in packaged.files]
        found = {"bundle": str(packaged.folder), "manifest": dataclasses.asdict(manifest)}
        show.document("package", {**found, "golden_source": packaged.golden_source, "files": files})
        return
    rows = [
        ("model", f"{manifest.model}, {manifest.embedding_dim}-D"),
        *(
            (artifact.runtime, f"{artifact.file}, {artifact.precision}")
            for artifact in manifest.artifacts
        ),
        ("golden", packaged.golden_source),
        ("licence", manifest.license or "not told by the model"),
        ("size", f"{sum(size for _, size in packaged.files) / 1e6:.1f} MB"),
    ]
    show.facts(str(packaged.folder), rows)
    if manifest.license is None:
        show.note("note: the model does not tell its licence; see LICENSE, or pass --license")
