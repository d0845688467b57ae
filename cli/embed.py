"""`gsp-deploy embed`: image files become a table of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import (
    CudaApi,
    CudaGraphs,
    Device,
    Force,
    HostCode,
    Json,
    ModelFile,
    Plugins,
    Provider,
    Threads,
)

if TYPE_CHECKING:
    from gsp_deploy.embedding import EmbeddingTable

SHOWN_FAILURES = 10


def embed(
    model: ModelFile,
    images: Annotated[list[str], typer.Argument(help="Folders, files or glob patterns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy, .npz or .parquet.")],
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first image that cannot be read.")
    ] = False,
    device: Device = None,
    provider: Provider = None,
    threads: Threads = None,
    cuda_api: CudaApi = "auto",
    cuda_graphs: CudaGraphs = True,
    plugin: Plugins = None,
    allow_host_code: HostCode = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Embed images in order; broken ones are left out and listed at the end."""
    from gsp_deploy.embedding import check_table_path, embed_files, ids_path, write_table
    from gsp_deploy.files import refuse_overwrite
    from gsp_deploy.image_files import ImageReader, find_images
    from gsp_deploy.runtime import open_session

    check_table_path(output)
    for file in (output, ids_path(output)) if output.suffix == ".npy" else (output,):
        refuse_overwrite(file, force)
    files = find_images(images)
    with open_session(
        model,
        device,
        threads=threads,
        provider=provider,
        cuda_graphs=cuda_graphs,
        cuda_api=cuda_api,
        plugins=plugin or (),
        allow_host_code=allow_host_code,
    ) as session:
        reader = ImageReader(files, session.info.require_preprocessing(), batch, strict)
        with show.progress("embedding", len(files)) as bar:
            table = embed_files(session, reader, lambda n: bar.advance(bar.task_ids[0], n))
        written = write_table(table, output)
        runtime = f"{session.info.runtime} {session.info.device}, {session.info.precision}"
    _report(table, written, runtime, json)


def _report(table: EmbeddingTable, written: tuple[Path, ...], runtime: str, json: bool) -> None:
    count, dim = table.embeddings.shape
    if json:
        failures = [{"file": str(f.file), "reason": f.reason} for f in table.failures]
        show.document(
            "embed",
            {
                "files": [str(path) for path in written],
                "images": count,
                "embedding_dim": dim,
                "runtime": runtime,
                "skipped": failures,
            },
        )
        return
    rows = [("embedded", f"{count:,} images, {dim}-D"), ("runtime", runtime)]
    show.facts(", ".join(str(path) for path in written), rows)
    if table.failures:
        show.note(f"skipped {len(table.failures):,} images that cannot be read:")
        for failure in table.failures[:SHOWN_FAILURES]:
            show.note(f"  {failure.reason}")
        if len(table.failures) > SHOWN_FAILURES:
            show.note(f"  and {len(table.failures) - SHOWN_FAILURES:,} more (--json lists all)")
