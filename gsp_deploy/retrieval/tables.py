"""Tables of embeddings in one file: written row by row, in constant memory, whole or not at all.

`.npy` contains the embeddings, with the ids beside it in `<name>.ids.txt`, one per line; `.npz`
contains both as `ids` and `embeddings`; `.parquet` has the columns `id` and `embedding`. The last
two also contain further columns under their names.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy

from gsp_deploy.base.file_names import as_text
from gsp_deploy.base.files import replacing, replacing_together
from gsp_deploy.base.origin import MARK
from gsp_deploy.errors import MissingCapabilityError, UsageError, brief
from gsp_deploy.retrieval.stored import SUFFIXES

_CHUNK = 8192


class TableWriter(Protocol):
    """A table that is being written."""

    def add(self, ids: Sequence[str], outputs: Mapping[str, np.ndarray]) -> None:
        """Append rows: `outputs` has `embedding`, float32 `(n, D)`, and the further columns."""


def check_table_path(path: Path, with_columns: bool = False) -> None:
    """Raise `UsageError` for an unknown table format, so that a command can check before it works.

    `.npy` contains only embeddings, so it cannot have further columns.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: expected an output ending in {', '.join(SUFFIXES)}, or a folder's name "
            f"without a suffix, got {path.suffix or 'no suffix'}"
        )
    if with_columns and path.suffix == ".npy":
        raise UsageError(
            f"{path}: a .npy contains only the embeddings; write .npz or .parquet, which have a "
            "column for the residual"
        )
    if path.suffix == ".parquet":
        pyarrow_modules()


@contextmanager
def writing_table(path: Path, dim: int, columns: Sequence[str] = ()) -> Iterator[TableWriter]:
    """Yield a writer, and move the finished table to its name if the block succeeds.

    Args:
        path: the table; its suffix decides the format.
        dim: D of the embeddings.
        columns: names of the columns with one more number per image.

    Raises:
        UsageError: the format is unknown or has no room for the columns, or a line break in an id
            prevents a list with one id per line.
        OutputError: the table cannot be written.
    """
    check_table_path(path, bool(columns))
    write = {".npy": _writing_npy, ".npz": _writing_npz, ".parquet": _writing_parquet}
    with write[path.suffix](path, dim, columns) as writer:
        yield writer


def table_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a table, the main one first."""
    return (path, ids_path(path)) if path.suffix == ".npy" else (path,)


def ids_path(path: Path) -> Path:
    """Return the path of a `.npy` table's ids.

    >>> ids_path(Path("table.npy")).name
    'table.ids.txt'
    """
    return path.with_suffix(".ids.txt")


class _Column:
    """A `.npy` array that grows row by row; its header is corrected at the end."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self._stream, self._shape, self._rows = stream, shape, 0
        self._write_header()

    def add(self, values: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        self._rows += len(values)

    def finish(self) -> None:
        self._stream.seek(0)
        self._write_header()  # numpy leaves room for the number of rows to grow

    def _write_header(self) -> None:
        header = {
            "descr": npy.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (self._rows, *self._shape),
        }
        npy.write_array_header_1_0(self._stream, header)


class _Rows:
    """Ids and columns that are appended to files of their own."""

    def __init__(self, ids: Callable[[str], None], columns: Mapping[str, _Column]) -> None:
        self._ids, self._columns = ids, columns

    def add(self, ids: Sequence[str], outputs: Mapping[str, np.ndarray]) -> None:
        for name in ids:
            self._ids(name)
        for name, column in self._columns.items():
            column.add(outputs[name])

    def finish(self) -> None:
        for column in self._columns.values():
            column.finish()


@contextmanager
def _writing_npy(path: Path, dim: int, columns: Sequence[str]) -> Iterator[TableWriter]:
    with (
        replacing_together(ids_path(path), path) as (fresh_ids, fresh),
        open(fresh_ids, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as ids,
        open(fresh, "wb") as stream,
    ):
        column = _Column(stream, (dim,))
        rows = _Rows(lambda name: _write_line(name, ids), {"embedding": column})
        yield rows
        rows.finish()


def _write_line(name: str, ids: Any) -> None:
    if len(name.splitlines()) > 1:
        raise UsageError(
            f"{brief(name)} has a line break, so a list with one id per line cannot contain it; "
            "write .npz or .parquet"
        )
    ids.write(f"{name}\n")


@contextmanager
def _writing_npz(path: Path, dim: int, columns: Sequence[str]) -> Iterator[TableWriter]:
    with replacing(path) as fresh:
        listed = fresh.with_name("ids.txt")
        files = {name: fresh.with_name(f"{name}.npy") for name in columns}
        files["embedding"] = fresh.with_name("embeddings.npy")
        with ExitStack() as stack:
            ids = stack.enter_context(open(listed, "w", encoding="ascii"))
            spooled = {}
            for name, file in files.items():
                shape = (dim,) if name == "embedding" else ()
                spooled[name] = _Column(stack.enter_context(open(file, "wb")), shape)
            rows = _Rows(lambda name: print(json.dumps(name), file=ids), spooled)
            yield rows
            rows.finish()
        with zipfile.ZipFile(fresh, "w") as archive:
            archive.comment = MARK.encode()
            _pack_ids(archive, listed)
            for file in files.values():
                with open(file, "rb") as source, _member_to_write(archive, file.name) as member:
                    while block := source.read(1 << 20):
                        member.write(block)


def _pack_ids(archive: zipfile.ZipFile, listed: Path) -> None:
    """Write the ids as one array of text of the longest id's length."""
    with open(listed, encoding="ascii") as lines:
        lengths = [len(json.loads(line)) for line in lines]
    kind = np.dtype(f"<U{max(lengths, default=1) or 1}")
    header = {"descr": kind.str, "fortran_order": False, "shape": (len(lengths),)}
    with open(listed, encoding="ascii") as lines, _member_to_write(archive, "ids.npy") as member:
        npy.write_array_header_1_0(member, header)
        for line in lines:
            member.write(np.array(json.loads(line), kind).tobytes())


def _member_to_write(archive: zipfile.ZipFile, name: str) -> Any:
    return archive.open(zipfile.ZipInfo(name), "w", force_zip64=True)


class _ParquetRows:
    """Rows of a Parquet file, gathered into row groups of one size."""

    def __init__(self, stream: BinaryIO, dim: int, columns: Sequence[str]) -> None:
        self._arrow, self._parquet = pyarrow_modules()
        vectors = self._arrow.list_(self._arrow.float32(), dim)
        fields = [("id", self._arrow.string()), ("embedding", vectors)]
        fields += [(name, self._arrow.float32()) for name in columns]
        self._schema = self._arrow.schema(fields, metadata={"gsp_deploy": MARK})
        self._writer = self._parquet.ParquetWriter(stream, self._schema)
        self._ids: list[str] = []
        self._outputs: dict[str, list[np.ndarray]] = {"embedding": [], **{n: [] for n in columns}}

    def add(self, ids: Sequence[str], outputs: Mapping[str, np.ndarray]) -> None:
        self._ids += ids
        for name, values in self._outputs.items():
            values.append(outputs[name])
        if len(self._ids) >= _CHUNK:
            self._flush()

    def finish(self) -> None:
        self._flush()

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if not self._ids:
            return
        # Parquet needs UTF-8; a file name may contain other bytes.
        names = [as_text(name) for name in self._ids]
        joined = {name: np.concatenate(values) for name, values in self._outputs.items()}
        dim = joined["embedding"].shape[1]
        flat = self._arrow.array(joined["embedding"].ravel())
        vectors = self._arrow.FixedSizeListArray.from_arrays(flat, dim)
        columns = {"id": self._arrow.array(names, self._arrow.string()), "embedding": vectors}
        columns |= {n: self._arrow.array(v) for n, v in joined.items() if n != "embedding"}
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        self._ids.clear()
        for values in self._outputs.values():
            values.clear()


@contextmanager
def _writing_parquet(path: Path, dim: int, columns: Sequence[str]) -> Iterator[TableWriter]:
    # A stream, because pyarrow opens no path that is not UTF-8.
    with replacing(path) as fresh, open(fresh, "wb") as stream:
        rows = _ParquetRows(stream, dim, columns)
        try:
            yield rows
            rows.finish()
        finally:
            rows.close()


def pyarrow_modules() -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingCapabilityError: they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingCapabilityError(
            "Parquet files and data sets need pyarrow: pip install pyarrow, or write .npy"
        ) from error
    return pyarrow, pyarrow.parquet
