"""`gsp-deploy search`: find the images of an index that look most like a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsp_deploy.base.words import counted
from gsp_deploy_cli.options.common import Force, Json
from gsp_deploy_cli.options.inputs import existing_file, existing_images, existing_index
from gsp_deploy_cli.options.runtime import RuntimeOptions
from gsp_deploy_cli.tables import show

if TYPE_CHECKING:
    from gsp_deploy.retrieval.gallery import Gallery
    from gsp_deploy.retrieval.hits import Row
    from gsp_deploy.retrieval.servers import Collection

FILE_WIDTH = 60


def search(
    queries: Annotated[
        list[str],
        typer.Argument(help="Image files, folders or glob patterns.", callback=existing_images),
    ],
    *,
    gallery: Annotated[
        str,
        typer.Option(
            "--index",
            help="A folder made by `index`; or SERVER:URI/COLLECTION, as `index --to` fills.",
            callback=existing_index,
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            help="The model that filled the index: its checkpoint, ONNX file or engine.",
            callback=existing_file,
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-k", help="Results for each query.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option(help="Write the results as pictures: a .png or .html.")
    ] = None,
    runtime: RuntimeOptions,
    force: Force = False,
    json: Json = False,
) -> None:
    """Search an index for similar images, with the model that filled it."""
    from gsp_deploy.base.files import refuse_inputs_inside, refuse_overwrite
    from gsp_deploy.errors import UsageError
    from gsp_deploy.images.files import ImageReader, find_images
    from gsp_deploy.retrieval.embedding import embed_files
    from gsp_deploy.retrieval.hits import Row
    from gsp_deploy.retrieval.identity import identity_of
    from gsp_deploy.retrieval.sheet import check_sheet_path, write_sheet

    if count < 1:
        raise UsageError(f"--count must be at least 1, got {count}")
    files = find_images(queries, show.note)
    if sheet is not None:
        check_sheet_path(sheet)
        refuse_inputs_inside(sheet, files)
        refuse_overwrite(sheet, force)
    with _opened(gallery) as opened, runtime.open(model) as session:
        reduced = opened.identity.reduced_jpeg  # the queries are decoded as the gallery was
        identity = identity_of(session, reduced_jpeg=reduced)
        opened.identity.warn_or_refuse(identity)  # before anything is embedded
        spec = session.info.preprocessing
        assert spec is not None
        reader = ImageReader(files, spec, reduced=reduced)
        with show.counting("embedding", len(files)) as advance:
            table = embed_files(session, reader, advance)
        hits, warning = opened.search(identity, table.embeddings, count)
    rows = [Row(query, found) for query, found in zip(table.ids, hits, strict=True)]
    if warning is not None:
        show.warning(warning)
    show.skipped([failure.reason for failure in table.failures])
    if sheet is not None:
        asked = counted(len(rows), "query", "queries")
        write_sheet(rows, sheet, f"{asked} of {Path(gallery).name}")
    _report(rows, warning, sheet, json)


@contextmanager
def _opened(index: str) -> Iterator[Gallery | Collection]:
    """Open a folder, or a collection on a vector server, which needs no faiss."""
    from gsp_deploy.retrieval.servers.place import place_in

    if (place := place_in(index)) is None:
        from gsp_deploy.retrieval.gallery import open_gallery

        yield open_gallery(index)
        return
    from gsp_deploy.retrieval.servers import open_collection

    with open_collection(place) as collection:
        yield collection


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
        lines = [
            (f"{hit.rank}  {show.elided(hit.file, FILE_WIDTH)}", f"{hit.cosine:.4f}")
            for hit in row.hits
        ]
        show.table(row.query, ("file", "cosine"), lines)
    if sheet is not None:
        show.note(f"pictures: {sheet}")
