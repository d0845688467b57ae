"""Recognise the files that gsp-deploy made, since `--force` replaces no others.

Each kind of output has a mark inside, or a second file beside it. An empty file may be replaced,
because nothing is lost.
"""

from __future__ import annotations

import json
import mmap
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from gsp_deploy.base.inputs import open_regular

# The mark in pictures and pages; models have the package's name in their metadata instead.
MARK = "made by gsp-deploy"
_ONNX_MAGIC = b"\x08"  # tag of the field `ir_version`, the first in the file
# The mark is in a picture's text chunks or a page's head, within this many bytes of the start.
_HEAD_BYTES = 4096
_IN_PNG = b"Software\0" + MARK.encode()
_IN_JPEG = b"\xff\xfe" + (len(MARK) + 2).to_bytes(2, "big") + MARK.encode()
_IN_HTML = f'<meta name="generator" content="{MARK}">'.encode()
_IN_MARKDOWN = f"<!-- {MARK} -->".encode()
TOML_MARK = f"# {MARK}"
# Entries of the documents of `--json`, of an engine's manifest, and of an export's manifest.
_DOCUMENTS: tuple[dict[str, type], ...] = (
    {"document": str, "version": int},
    {"engine_format": int},
    {"format": int, "pooling_form": str},
)
# A key and its value, as Thrift's compact protocol writes them.
_IN_PARQUET = b"gsp_deploy\x18" + bytes([len(MARK)]) + MARK.encode()
_PARQUET_END = 8  # bytes: the length of the footer, and PAR1


def made_here(path: Path) -> bool:
    """Whether a regular file has the mark that gsp-deploy writes into files with its suffix."""
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    try:
        return _TESTS.get(path.suffix.lower(), _is_unknown)(path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile):
        return False


def _has_in_head(mark: bytes) -> Callable[[Path], bool]:
    def has_mark(path: Path) -> bool:
        with open_regular(path) as stream:
            return mark in stream.read(_HEAD_BYTES)

    return has_mark


def _mentions(path: Path, magic: bytes, words: bytes) -> bool:
    """Whether a file begins with its format's first bytes and contains these words."""
    with open_regular(path) as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
        return m[: len(magic)] == magic and m.find(words) >= 0


def _is_checkpoint(path: Path) -> bool:
    with open_regular(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size:
            return False
        header = json.loads(stream.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and "gsp_deploy" in metadata


def _has_manifest(path: Path) -> bool:
    beside = path.with_name(f"{path.name}.json")
    return beside.is_file() and _is_document(beside)


def _is_model(path: Path) -> bool:
    return _has_manifest(path) or _mentions(path, _ONNX_MAGIC, b"gsp_deploy.manifest")


def _are_weights_beside(path: Path) -> bool:
    model = path.with_suffix("")
    return model.is_file() and _is_model(model)


def _is_document(path: Path) -> bool:
    with open_regular(path) as stream:
        found = json.loads(stream.read())
    return isinstance(found, dict) and any(
        all(type(found.get(key)) is kind for key, kind in entries.items()) for entries in _DOCUMENTS
    )


def _is_table_of_embeddings(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.comment == MARK.encode()


def _has_mark_in_footer(path: Path) -> bool:
    """Whether a Parquet file has the mark in the metadata at its end."""
    with open_regular(path) as stream:
        whole = stream.seek(0, os.SEEK_END)
        stream.seek(max(whole - _PARQUET_END, 0))
        length = int.from_bytes(stream.read(4), "little")
        if stream.read() != b"PAR1" or length + _PARQUET_END > whole:
            return False
        stream.seek(whole - _PARQUET_END - length)
        return _IN_PARQUET in stream.read()


def _has_its_ids(path: Path) -> bool:
    return path.with_suffix(".ids.txt").is_file()


def _is_list_of_ids(path: Path) -> bool:
    return path.name.endswith(".ids.txt") and (
        path.with_name(f"{path.name.removesuffix('.ids.txt')}.npy").is_file()
    )


def _is_unknown(path: Path) -> bool:
    return False


_TESTS: dict[str, Callable[[Path], bool]] = {
    ".onnx": _is_model,
    ".data": _are_weights_beside,
    ".safetensors": _is_checkpoint,
    ".engine": _has_manifest,
    ".plan": _has_manifest,
    ".json": _is_document,
    ".npy": _has_its_ids,
    ".txt": _is_list_of_ids,
    ".npz": _is_table_of_embeddings,
    ".parquet": _has_mark_in_footer,
    ".png": _has_in_head(_IN_PNG),
    **dict.fromkeys((".jpg", ".jpeg"), _has_in_head(_IN_JPEG)),
    **dict.fromkeys((".html", ".htm"), _has_in_head(_IN_HTML)),
    ".md": _has_in_head(_IN_MARKDOWN),
    ".toml": _has_in_head(TOML_MARK.encode()),
}
