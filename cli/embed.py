"""`gsp-deploy embed`: embed image files into a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .npy, .npz or .parquet to write.")
    ],
    also: Annotated[
        Literal["residual"] | None,
        typer.Option(help="Add a column with the solver's error for each image (.npz, .parquet)."),
    ] = None,
    batch: BatchSize = 32,
    strict: Strict = False,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Embed images in order; broken images are skipped and listed at the end."""
    from gsp_deploy.base.files import refuse_overwrite
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.embedding import (
        certificates_of,
        check_table_path,
        embed_files,
        ids_path,
        write_table,
    )

    check_table_path(output, with_columns=also is not None)
    for file in (output, ids_path(output)) if output.suffix == ".npy" else (output,):
        refuse_overwrite(file, force)
    files = find_images(images, show.note)
    with runtime.open(model, many=True) as session:
        columns = certificates_of(session) if also else ()
        reader = ImageReader(files, session.info.require_preprocessing(), batch, strict)
        with show.counting("embedding", len(files)) as advance:
            table = embed_files(session, reader, advance, columns)
        written = write_table(table, output)
        ran_on = f"{session.info.runtime} {session.info.device}, {session.info.precision}"
    _report(table, written, ran_on, json)


def _largest(table: EmbeddingTable, column: str) -> float | None:
    """Return the column's largest value; None if it is empty or holds NaN or infinity."""
    values = table.columns[column]
    largest = float(values.max()) if len(values) else math.nan
    return largest if math.isfinite(largest) else None


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
                **{f"largest_{name}": _largest(table, name) for name in table.columns},
            },
        )
        return
    rows = [("embedded", f"{counted(count, 'image')}, {dim}-D"), ("runtime", ran_on)]
    for name in table.columns:
        largest = _largest(table, name)
        words = "not a number" if largest is None else f"{largest:.1e}"
        rows.append((f"largest {name.replace('_', ' ')}", words))
    show.facts(", ".join(str(path) for path in written), rows)
    show.skipped([failure.reason for failure in table.failures])
