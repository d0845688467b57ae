"""Write and read one part: a Parquet file whose footer says what it contains."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet

from gsp_deploy.base.file_names import as_text
from gsp_deploy.base.files import replacing, replacing_together
from gsp_deploy.base.inputs import open_regular
from gsp_deploy.base.schema import from_fields
from gsp_deploy.errors import ConfigError, DataError, reason_of
from gsp_deploy.retrieval.dataset.layout import FOOTER, EmbeddingSettings, Part, Storage

# A row group is what a reader holds in memory at once.
ROW_GROUP = 8192
_LEVELS = 127
_ELEMENTS = {"float32": np.float32, "float16": np.float16, "int8": np.int8}


def part_table(
    ids: Sequence[str],
    sources: Sequence[str],
    outputs: Mapping[str, np.ndarray],
    storage: Storage,
) -> arrow.Table:
    """Return a part's rows: `id`, `embedding`, the further outputs, `source`.

    Args:
        ids: one per image.
        sources: the container or the file of each image.
        outputs: the model's outputs float32, `(n, ...)`; all but the first axis become one list.
        storage: element type of the embeddings. `int8` adds a column `scale`: an embedding is its
            whole numbers times its scale, which is its largest absolute value over 127.
    """
    columns = {"id": _text(ids), **_embedding(outputs["embedding"], storage)}
    columns |= {name: _listed(v) for name, v in outputs.items() if name != "embedding"}
    return arrow.table({**columns, "source": _text(sources)})


def failures_table(
    ids: Sequence[str], sources: Sequence[str], errors: Sequence[str]
) -> arrow.Table:
    """Return the rows of the images that could not be read: `id`, `source`, `error`."""
    return arrow.table({"id": _text(ids), "source": _text(sources), "error": _text(errors)})


def write_part(
    folder: Path,
    part: Part,
    settings: EmbeddingSettings,
    rows: arrow.Table,
    failures: arrow.Table,
) -> None:
    """Write a part, and the file of its failures if it has any, whole or not at all.

    Raises:
        OutputError: the system refuses to write.
    """
    target, beside = folder / part.name, folder / part.failures_name
    if not part.failures:
        with replacing(target) as fresh:
            _write(rows, fresh, part, settings)
        return
    with replacing_together(beside, target) as (fresh_failures, fresh):
        _write(failures, fresh_failures, part, settings)
        _write(rows, fresh, part, settings)


def read_footer(path: Path) -> tuple[Part, EmbeddingSettings]:
    """Return what a part's footer says.

    Raises:
        DataError: the file is not a part, or its footer is damaged.
    """
    try:
        with open_regular(path) as stream:
            file = parquet.ParquetFile(stream)
            entries = json.loads((file.schema_arrow.metadata or {})[FOOTER.encode()])
            part = from_fields(Part, entries["part"])
            settings = from_fields(EmbeddingSettings, entries["settings"])
            rows = file.metadata.num_rows
    except (ValueError, TypeError, KeyError, AttributeError, OSError, ConfigError) as error:
        raise DataError(f"{path}: not a whole part of embeddings ({reason_of(error)})") from error
    if path.name == part.name and rows != part.images:
        raise DataError(f"{path}: expected {part.images:,} rows, got {rows:,}")
    return part, settings


def check_pages(path: Path) -> None:
    """Read every page of a part and compare its checksum.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with open_regular(path) as stream:
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the part is damaged ({reason_of(error)})") from error


def floats(table: arrow.Table) -> np.ndarray:
    """Return the column `embedding` of some rows as float32 `(n, D)`, whatever its storage."""
    column = table["embedding"].combine_chunks()
    if isinstance(column, arrow.ChunkedArray):  # a table without rows has no chunk
        column = arrow.concat_arrays(column.chunks or [arrow.array([], column.type)])
    values = column.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # too large a number becomes infinity, which is refused later
        found = values.reshape(len(column), column.type.list_size).astype(np.float32)
    if "scale" in table.column_names:
        found *= table["scale"].to_numpy().astype(np.float32)[:, None]
    return found


def _write(table: arrow.Table, path: Path, part: Part, settings: EmbeddingSettings) -> None:
    about = {"part": dataclasses.asdict(part), "settings": settings.entries()}
    metadata = {FOOTER: json.dumps(about, sort_keys=True)}
    words = {"id", "source", "error"} & set(table.column_names)
    with open(path, "wb") as stream:  # pyarrow opens no path that is not UTF-8
        parquet.write_table(
            table.replace_schema_metadata(metadata),
            stream,
            row_group_size=ROW_GROUP,
            compression={name: "zstd" if name in words else "none" for name in table.column_names},
            use_dictionary=[name for name in ("source",) if name in table.column_names],
            write_page_checksum=True,
            write_statistics=False,
        )


def _embedding(values: np.ndarray, storage: Storage) -> dict[str, Any]:
    if storage != "int8":
        with np.errstate(over="ignore"):
            return {"embedding": _listed(values.astype(_ELEMENTS[storage]))}
    scale = np.abs(values).max(axis=1, initial=0) / _LEVELS
    whole = np.rint(values / np.where(scale > 0, scale, 1)[:, None])
    return {
        "embedding": _listed(whole.astype(np.int8)),
        "scale": arrow.array(scale.astype(np.float32)),
    }


def _listed(values: np.ndarray) -> arrow.Array:
    """Return `(n,)` as a column of numbers, and `(n, ...)` as one of lists of fixed size."""
    flat = arrow.array(np.ascontiguousarray(values).ravel())
    if values.ndim == 1:
        return flat
    size = int(np.prod(values.shape[1:]))
    return arrow.FixedSizeListArray.from_arrays(flat, size)


def _text(values: Sequence[str]) -> arrow.Array:
    """Return a column of text, with names that are not UTF-8 as `as_text` writes them."""
    names = [as_text(value) for value in values]
    return arrow.array(names, arrow.string())
