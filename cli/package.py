"""`gsp-deploy package`: put a model into a folder that can be checked on the target machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsp_deploy.base.choices import PackageFormat, Placement, RuntimeWord
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file, existing_images
from gsp_deploy_cli.options.runtime import PrecisionOption
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.bundle.packaging import PackagedBundle, PackageOptions
    from gsp_deploy.triton import TritonRepository

triton_option = panel("For Triton")


@dataclass(frozen=True)
class TritonSettings:
    """Settings for Triton Inference Server; None means the default."""

    name: Annotated[
        str | None, triton_option(help="Model name for clients. (default: the file's name)")
    ] = None
    max_batch: Annotated[
        int | None, triton_option(help="Most images in one batch. (default: 32)")
    ] = None
    queue_delay_us: Annotated[
        int | None,
        triton_option(help="Microseconds that an image waits for others. (default: 2000)"),
    ] = None
    instances: Annotated[int | None, triton_option(help="Copies of the model. (default: 1)")] = None
    placement: Annotated[
        Placement | None, triton_option(help="Where the model runs. (default: auto)")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings that you gave, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def package(
    model: Annotated[
        Path, typer.Argument(help="An exported model (.onnx) or an engine.", callback=existing_file)
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    onnx: Annotated[
        Path | None,
        typer.Option(
            help="The engine's ONNX file: it computes the golden embeddings, and is the fallback.",
            callback=existing_file,
        ),
    ] = None,
    plugin: Annotated[
        Path | None,
        typer.Option(help="The plugin library that an engine needs.", callback=existing_file),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Golden images: a folder, file or glob pattern; repeatable. "
            "(default: built-in photographs)",
            callback=existing_images,
        ),
    ] = None,
    license_file: Annotated[
        Path | None,
        typer.Option(
            "--license",
            help="A licence file. (default: the licence that the model names)",
            callback=existing_file,
        ),
    ] = None,
    runtime: Annotated[
        RuntimeWord | None,
        typer.Option(
            help="What runs the ONNX model first: openvino (ONNX Runtime is then the fallback) or "
            "onnxruntime. (default: onnxruntime)"
        ),
    ] = None,
    precision: PrecisionOption = None,
    form: Annotated[
        PackageFormat,
        typer.Option(
            "--format", help="bundle, for Python and C++; triton, for Triton Inference Server."
        ),
    ] = "bundle",
    triton: TritonSettings,
    force: Force = False,
    json: Json = False,
) -> None:
    """Put a model, its manifest and golden embeddings into a folder to run elsewhere."""
    from gsp_deploy.bundle.packaging import PackageOptions, package_model
    from gsp_deploy.errors import UsageError

    options = PackageOptions(onnx, plugin, images or None, license_file, force, runtime, precision)
    if form == "triton":
        _report_repository(_for_triton(model, output, options, triton), json)
        return
    if triton.given:
        unused = next(iter(triton.given)).replace("_", "-")
        raise UsageError(f"--{unused} belongs to --format triton")
    with show.status(f"packaging {model.name}"):
        packaged = package_model(model, output, options, show.note)
    _report(packaged, json)


def _for_triton(
    model: Path, output: Path, options: PackageOptions, triton: TritonSettings
) -> TritonRepository:
    from gsp_deploy.bundle.packaging import prepare_model
    from gsp_deploy.errors import UsageError
    from gsp_deploy.triton import GoldenVectors, TritonOptions, write_triton_repository

    for option, value in (("--license", options.license), ("--runtime", options.runtime)):
        if value is not None:
            raise UsageError(f"{option} belongs to --format bundle")
    settings = triton.given
    name = settings.pop("name", None)
    chosen = TritonOptions(**settings)
    with show.status(f"packaging {model.name} for Triton"):
        prepared = prepare_model(model, options, show.note)
        golden = GoldenVectors(prepared.golden.images, prepared.embeddings)
        return write_triton_repository(
            model, output, golden, chosen, name=name, plugin=options.plugin, force=options.force
        )


def _report_repository(written: TritonRepository, json: bool) -> None:
    if json:
        show.document("triton-repository", asdict(written))
        return
    rows = [
        ("ask for", written.name),
        ("models", ", ".join(written.models)),
        ("tritonserver", " ".join(("--model-repository=/models", *written.server_options))),
        ("next", "README.md shows how to start, query and measure it"),
    ]
    show.facts(str(written.folder), rows)


def _report(packaged: PackagedBundle, json: bool) -> None:
    manifest = packaged.manifest
    if json:
        files = [{"file": name, "bytes": size} for name, size in packaged.files]
        found = {"bundle": str(packaged.folder), "manifest": asdict(manifest)}
        show.document("package", {**found, "golden_source": packaged.golden_source, "files": files})
        return
    rows = [
        ("model", f"{manifest.model}, {manifest.embedding_dim}-D"),
        *(
            (artifact.runtime, f"{artifact.file}, {artifact.precision}")
            for artifact in manifest.artifacts
        ),
        ("golden", packaged.golden_source),
        ("licence", manifest.license or "not named by the model"),
        ("size", f"{sum(size for _, size in packaged.files) / 1e6:.1f} MB"),
    ]
    show.facts(str(packaged.folder), rows)
    if manifest.license is None:
        show.remark("the model does not name its licence; see LICENSE, or pass --license")
