"""Parquet and Arrow tables of images, as the Hugging Face hub stores data sets.

The image column is a struct of `bytes` and `path`, plain bytes, or text with paths or URLs. An
image's id is the table's name, a slash, and the row's number from 0, or the text in the column
that `Columns.id` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as arrow
import pyarrow.parquet as parquet

from gsp_deploy.errors import SourceError, UsageError, brief, reason_of
from gsp_deploy.images.decoding import shown_name
from gsp_deploy.sources.lists import entry_beside, the_only
from gsp_deploy.sources.records import Columns, FileEntry, Record
from gsp_deploy.sources.stores import reading

ROWS = 64  # in memory at once
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "content")
_FILE_MAGIC = b"ARROW1"


def read_parquet(file: FileEntry, columns: Columns, skip: int = 0) -> Iterator[Record]:
    """Yield the images of a Parquet file from row `skip` on.

    Raises:
        UsageError: no column contains images.
        SourceError: the file cannot be read, or is damaged.
    """
    return _read(file, columns, skip, _parquet_batches)


def read_arrow(file: FileEntry, columns: Columns, skip: int = 0) -> Iterator[Record]:
    """Yield the images of an Arrow file or stream from row `skip` on; raises as `read_parquet`."""
    return _read(file, columns, skip, _arrow_batches)


def _read(file: FileEntry, columns: Columns, skip: int, batches: Any) -> Iterator[Record]:
    row = 0
    with reading(file.location) as stream:
        try:
            for batch in batches(stream, columns, file.location):
                if row + len(batch) > skip:
                    start = max(0, skip - row)
                    yield from _records(batch.slice(start), row + start, columns, file)
                row += len(batch)
        except (arrow.ArrowException, ValueError) as error:
            raise SourceError(
                f"{shown_name(file.location)}: not a whole table ({reason_of(error)}); make or "
                "fetch it again"
            ) from error


def _parquet_batches(stream: BinaryIO, columns: Columns, name: str) -> Iterator[Any]:
    file = parquet.ParquetFile(stream, pre_buffer=False)
    wanted = [image_column(file.schema_arrow, columns, name)]
    wanted += [columns.id] if columns.id is not None else []
    return file.iter_batches(batch_size=ROWS, columns=wanted)


def _arrow_batches(stream: BinaryIO, columns: Columns, name: str) -> Iterator[Any]:
    magic = stream.read(len(_FILE_MAGIC))
    stream.seek(0)
    if magic == _FILE_MAGIC:
        file = arrow.ipc.open_file(stream)
        image_column(file.schema, columns, name)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
    else:
        batches = arrow.ipc.open_stream(stream)
        image_column(batches.schema, columns, name)
    for batch in batches:
        for start in range(0, len(batch), ROWS):
            yield batch.slice(start, ROWS)


def image_column(schema: Any, columns: Columns, name: str) -> str:
    """Return the name of the column with images.

    Raises:
        UsageError: there is none, a named column is missing, or several columns have images, and
            not one alone has a usual name.
    """
    found = [field.name for field in schema if _holds_images(field.type)]
    usual = [name for name in found if name.lower() in _IMAGES]
    chosen = columns.image or the_only(usual or found, name)
    wanted = "of images" if chosen is None else chosen
    if wanted in schema.names and columns.id is not None:
        wanted = columns.id
    if chosen is None or wanted not in schema.names:
        raise UsageError(
            f"{shown_name(name)}: expected a column {wanted}, got "
            f"{brief(', '.join(schema.names))}; name the columns with --image-column and "
            "--id-column"
        )
    return chosen


def _holds_images(kind: Any) -> bool:
    if arrow.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)


def _records(batch: Any, first: int, columns: Columns, file: FileEntry) -> Iterator[Record]:
    images = batch.column(image_column(batch.schema, columns, file.location)).to_pylist()
    ids = None if columns.id is None else batch.column(columns.id).to_pylist()
    if ids is not None and None in ids:
        row = first + ids.index(None)
        raise SourceError(f"{shown_name(file.location)}: row {row} has no id")
    for offset, image in enumerate(images):
        name = f"{file.id}/{first + offset}" if ids is None else str(ids[offset])
        yield _record(name, image, file)


def _record(name: str, image: Any, file: FileEntry) -> Record:
    content = image.get("bytes") if isinstance(image, dict) else image
    path = image.get("path") if isinstance(image, dict) else image
    if isinstance(content, bytes):
        return Record(name, file.id, content=content)
    if isinstance(path, str) and path:
        return Record(name, file.id, location=entry_beside(file.location, path).location)
    return Record(name, file.id, error="the row has no image")
