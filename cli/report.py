"""`gsp-deploy report`: write the results of the other commands as one HTML page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.groups import panel
from gsp_deploy_cli.options.inputs import existing_file, existing_images, existing_path
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.report import Pictures

picture_option = panel("Pictures")
MOST_IMAGES = 2000


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="JSON output of check, bench and evaluate, manifests, or folders of them.",
            callback=existing_path,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .html file to write.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Deployment report",
    markdown: Annotated[
        Path | None, typer.Option(help="Also write Markdown tables, for CI.")
    ] = None,
    reference: Annotated[
        Path | None,
        picture_option(help="Model to compare neighbours with.", callback=existing_file),
    ] = None,
    model: Annotated[
        Path | None, picture_option(help="The deployed model.", callback=existing_file)
    ] = None,
    images: Annotated[
        Path | None,
        picture_option(help="Folder of images, one folder per class.", callback=existing_images),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write one self-contained page: parity, latency, retrieval, neighbours, weight maps."""
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite, write_texts
    from gsp_deploy.errors import UsageError
    from gsp_deploy.report import html_page, markdown_page, read_documents

    if output.suffix not in (".html", ".htm"):
        raise UsageError(f"{output}: expected an output ending in .html, which a browser opens")
    if markdown is not None and markdown.resolve() == output.resolve():
        raise UsageError(f"{markdown} would be both the page and its tables; choose another name")
    for path in (output, *([markdown] if markdown else [])):
        refuse_inputs_inside(path, [source for source in sources if source.is_file()])
        refuse_overwrite(path, force)
    documents = read_documents(_with_manifest(sources, model))
    pictures = _pictures(reference, model, images)
    texts = {output: html_page(title, documents, pictures)}
    if markdown is not None:
        texts = {markdown: markdown_page(title, documents, pictures), **texts}
    write_texts(texts)
    counts = {
        "artifacts": len(documents.artifacts),
        "checks": len(documents.checks),
        "benchmarks": len(documents.benchmarks),
        "evaluations": len(documents.evaluations),
    }
    if json:
        files = [str(path) for path in (output, markdown) if path is not None]
        show.document("report", {"files": files, **counts})
    else:
        rows = [(name, str(count)) for name, count in counts.items()]
        show.facts(str(output), rows if markdown is None else [*rows, ("Markdown", str(markdown))])


def _with_manifest(sources: list[Path], model: Path | None) -> list[Path]:
    """Add the manifest of the deployed model, unless it is among the sources already."""
    from gsp_deploy.artifact import sidecar_path

    if model is None:
        return sources
    manifest = sidecar_path(model.absolute())  # beside a link's name, not its target's
    named = {source.resolve() for source in sources}
    is_there = not named.isdisjoint(path.resolve() for path in (manifest, *manifest.parents))
    return sources if is_there or not manifest.is_file() else [*sources, manifest]


def _pictures(reference: Path | None, model: Path | None, images: Path | None) -> Pictures | None:
    from gsp_deploy.errors import UsageError
    from gsp_deploy.images.files import find_images, read_images
    from gsp_deploy.report import take_pictures
    from gsp_deploy.runtime import open_session

    given = (reference, model, images)
    if not any(given):
        return None
    if reference is None or model is None or images is None:
        raise UsageError("pictures need all three of --reference, --model and --images")
    files = find_images([images], show.note)
    if len(files) > MOST_IMAGES:
        show.remark(f"pictures are of the first {MOST_IMAGES:,} of {len(files):,} images")
    with ExitStack() as stack, show.status("comparing neighbours"):
        sessions = [stack.enter_context(open_session(path)) for path in (reference, model)]
        spec = sessions[0].info.require_preprocessing()
        batch, failures = read_images(files[:MOST_IMAGES], spec)
        show.skipped([failure.reason for failure in failures])
        return take_pictures(sessions[0], sessions[1], batch)
