"""`gsp-deploy search`: the images of a gallery that look most like a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy_cli import show
from gsp_deploy_cli.options import Device, Force, Json, Provider, Threads

if TYPE_CHECKING:
    from gsp_deploy.index.sheet import Row


def search(
    queries: Annotated[list[str], typer.Argument(help="Image files, folders or glob patterns.")],
    gallery: Annotated[Path, typer.Option("--index", help="A folder made by `index`.")],
    model: Annotated[
        Path, typer.Option(help="The model that filled the index, in any of its forms.")
    ],
    count: Annotated[int, typer.Option("--count", "-k", help="Results for each query.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option(help="Write the results as pictures: a .png or .html.")
    ] = None,
    device: Device = None,
    provider: Provider = None,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Search an index by images; a model that did not fill it is refused."""
    from gsp_deploy.embedding import embed_files
    from gsp_deploy.errors import UsageError
    from gsp_deploy.files import refuse_overwrite
    from gsp_deploy.image_files import ImageReader, find_images
    from gsp_deploy.index import identity_of, open_gallery
    from gsp_deploy.index.sheet import Row, check_sheet_path, write_sheet
    from gsp_deploy.runtime import open_session

    if count < 1:
        raise UsageError(f"--count must be at least 1, got {count}")
    if sheet is not None:
        check_sheet_path(sheet)
        refuse_overwrite(sheet, force)
    opened = open_gallery(gallery)
    files = find_images(queries)
    with open_session(model, device, threads=threads, provider=provider) as session:
        identity = identity_of(session)
        opened.identity.warn_or_refuse(identity)  # before anything is embedded
        spec = session.info.preprocessing
        assert spec is not None
        with show.progress("embedding", len(files)) as bar:
            reader = ImageReader(files, spec)
            table = embed_files(session, reader, lambda n: bar.advance(bar.task_ids[0], n))
        hits, warning = opened.search(identity, table.embeddings, count)
    rows = [Row(query, found) for query, found in zip(table.ids, hits, strict=True)]
    if warning is not None:
        show.note(f"warning: {warning}")
    for failure in table.failures:
        show.note(f"skipped: {failure.reason}")
    if sheet is not None:
        write_sheet(rows, sheet, f"{len(rows)} queries of {gallery.name}")
    _report(rows, warning, sheet, json)


def _report(rows: list[Row], warning: str | None, sheet: Path | None, json: bool) -> None:
    import dataclasses

    if json:
        found = [
            {"query": row.query, "hits": [dataclasses.asdict(hit) for hit in row.hits]}
            for row in rows
        ]
        pictures = None if sheet is None else str(sheet)
        show.document("search", {"results": found, "warning": warning, "sheet": pictures})
        return
    for row in rows:
        lines = [(str(hit.rank), f"{hit.cosine:.4f}", hit.file) for hit in row.hits]
        show.table(row.query, ("", "cosine", "file"), lines)
    if sheet is not None:
        show.note(f"pictures: {sheet}")
