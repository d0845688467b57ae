"""`gsp-deploy embed`: image files become a table of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import BatchSize, Force, Images, Json, ModelFile, Strict
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.embedding import EmbeddingTable


def embed(
    model: ModelFile,
    images: Images,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy, .npz or .parquet.")],
    batch: BatchSize = 32,
    strict: Strict = False,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Embed images in order; broken ones are left out and listed at the end."""
    from gsp_deploy.base.files import refuse_overwrite
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.embedding import check_table_path, embed_files, ids_path, write_table

    check_table_path(output)
    for file in (output, ids_path(output)) if output.suffix == ".npy" else (output,):
        refuse_overwrite(file, force)
    files = find_images(images)
    with runtime.open(model) as session:
        reader = ImageReader(files, session.info.require_preprocessing(), batch, strict)
        with show.counting("embedding", len(files)) as advance:
            table = embed_files(session, reader, advance)
        written = write_table(table, output)
        ran_on = f"{session.info.runtime} {session.info.device}, {session.info.precision}"
    _report(table, written, ran_on, json)


def _report(table: EmbeddingTable, written: tuple[Path, ...], ran_on: str, json: bool) -> None:
    count, dim = table.embeddings.shape
    if json:
        failures = [{"file": str(f.file), "reason": f.reason} for f in table.failures]
        show.document(
            "embed",
            {
                "files": [str(path) for path in written],
                "images": count,
                "embedding_dim": dim,
                "runtime": ran_on,
                "skipped": failures,
            },
        )
        return
    rows = [("embedded", f"{counted(count, 'image')}, {dim}-D"), ("runtime", ran_on)]
    show.facts(", ".join(str(path) for path in written), rows)
    show.skipped([failure.reason for failure in table.failures])
